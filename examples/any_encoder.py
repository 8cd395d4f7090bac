"""Ex-post density estimation for somebody else's encoder: fit, judge and sample a density of its latents.

Here the encoder is a principal component analysis; a VAE's mean codes go in the same way. On the command line:
`raectl fit-density densities --latents latents.npy`, then `raectl sample densities -n 64 -o new.npy`.
"""

import numpy as np
from sklearn.datasets import load_digits
from sklearn.decomposition import PCA

from raectl.densities import GMM, Gaussian

digits = load_digits().data / 16
pca = PCA(8, random_state=0).fit(digits)
z = pca.transform(digits)
train, held_out = z[:1500], z[1500:]

for density in (Gaussian(), GMM(components=10)):
    density.fit(train, seed=0)
    print(f"{density.name}: {density.log_prob(held_out).mean():.2f} nats per held-out latent")

images = pca.inverse_transform(density.sample(64, seed=0).numpy())
np.save("new_digits.npy", np.clip(images, 0, 1).reshape(-1, 8, 8))
