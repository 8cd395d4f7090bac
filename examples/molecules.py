"""Molecules from a file to samples, at the size of a toy: 300 small ones that come with RDKit.

A model of use takes tens of thousands of molecules and hours; the way is the same.
"""

from pathlib import Path

from rdkit import Chem, RDConfig, rdBase

import raectl

# A molecule a line: its SMILES, and whatever else after a space. Yours is a file like this one.
lines = Path(RDConfig.RDDataDir, "NCI", "first_5K.smi").read_text().splitlines()
Path("small.smi").write_text("\n".join(sorted(lines, key=lambda line: len(line.split()[0]))[:300]))

# Strings that the grammar does not know, salts and metals among them, are skipped and counted: here up to a tenth.
config = raectl.Config(width=16, latent_dim=16, beta=1e-3, batch_size=20, epochs=40, lr=2e-3, max_bad=0.1)
checkpoint = raectl.train(config, "small.smi", out="molecules", overwrite=True)
for note in checkpoint.open_data().notes:
    print(note)
checkpoint.fit_density("gmm", components=10)
checkpoint.write(checkpoint.sample(200, seed=0), "new-molecules.txt")

samples = Path("new-molecules.txt").read_text().splitlines()  # an empty line is a string that came to no end
with rdBase.BlockLogs():
    molecules = [molecule for text in samples if text and (molecule := Chem.MolFromSmiles(text))]
different = {Chem.MolToSmiles(molecule) for molecule in molecules}
print(f"of {len(samples)} samples {sum(map(bool, samples))} are finished, {len(molecules)} are molecules to RDKit, "
      f"{len(different)} of them different: {', '.join(sorted(different, key=len)[-5:])}")  # fmt: skip

# The same and more, recorded with its protocol in molecules/metrics.jsonl: what `raectl evaluate` shows.
for result in raectl.Evaluation(checkpoint, "small.smi"):
    print(result.of, {name: round(measured.value, 3) for name, measured in result.measured.items()})
