# ---
# jupyter:
#   jupytext:
#     text_representation:
#       extension: .py
#       format_name: percent
#   kernelspec:
#     display_name: Python 3
#     language: python
#     name: python3
# ---

# %% [markdown]
# # A first study, step by step
# One cohort, three learning designs, one shift: predict, simulate, compare.  Everything here is a pure function of a key.

# %%
import jax

from rafmodel import cohort, design, metrics, variability
from rafmodel.phantoms import phantom
from rafmodel.predict import predict
from rafmodel.simulate import simulate

images = phantom(jax.random.key(0))
print(cohort.describe(images, "site"))

# %% [markdown]
# `predict` and `simulate` have one signature and return the same record.

# %%
designs = design.select(["untrained", "contrastive+crop", "contrastive+noise"], steps=60)
shifts = variability.select(["noise"])
test = cohort.part(images, "test")
foreseen = [predict(jax.random.key(1), images, test, d, shifts, group="site") for d in designs]
observed = [simulate(jax.random.key(2), images, test, d, shifts, group="site") for d in designs]

# %%
for d, p, o in zip(designs, foreseen, observed, strict=True):
    print(
        f"{d.name:20s} AUC at the five noise levels, predicted {p.auc[0, 1:, 0].round(2)} observed {o.auc[0, 1:, 0].round(2)}"
    )

# %% [markdown]
# Robust and fair: P, R, F and RAF of each design.

# %%
for d, o in zip(designs, observed, strict=True):
    print(d.name, metrics.raf(o.auc))
