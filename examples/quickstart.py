"""Train, fit a density and sample, in ten lines."""

import raectl

config = raectl.Config(reg="tikhonov", width=8, epochs=5, image_size=32, fit="stretch")
checkpoint = raectl.train(config, "digits", out="quickstart", overwrite=True)
fit = checkpoint.fit_density("gmm")
print(f"held-out log-likelihood: {fit.held_out:.3f} nats per dimension")
checkpoint.write(checkpoint.sample(64, seed=0), "quickstart.png")

digits = checkpoint.open_data().items
oddest = checkpoint.score(digits).score.argsort()[-16:]
checkpoint.write(digits[oddest], "oddest.png")
