"""A variability of the user's own, ``module:OBJECT``, goes wherever one of the package's goes, and counts in a cell's digest."""

import os
import re
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import cloudpickle
import jax
import jax.numpy as jnp
import numpy as np
import pytest
import xarray as xr

from rafmodel import benchmark, design, phantoms, running, variability
from rafmodel import recipe as recipes
from rafmodel.errors import InputError

PAGE = Path(__file__).resolve().parents[1] / "docs" / "VARIABILITY.md"
EXAMPLE = re.findall(r"```python\n# my_laws.py\n(.*?)```", PAGE.read_text(), re.DOTALL)[0]
BROKEN = {
    "NUMBER": ("NUMBER = 3", "is a int; give a rafmodel.variability.Variability"),
    "FEW": ("FEW = replace(HAIR, levels=(0.1, 0.2))", "give five that grow, the first above 0"),
    "FLAT": ("FLAT = replace(HAIR, levels=(0.1, 0.2, 0.2, 0.3, 0.4))", "give five that grow"),
    "BRIGHT": ("BRIGHT = replace(HAIR, law=lambda drawn, image, severity: image + 9 * severity)", "grey values in"),
    "CUT": (
        "CUT = replace(HAIR, law=lambda drawn, image, severity: image[:3])",
        "returns|law\\(drawn, image, severity\\)",
    ),
    "FAILS": ("FAILS = replace(HAIR, law=lambda drawn, image, severity: drawn['v'])", "KeyError: 'v'; write draw"),
    "NAMESAKE": ("NAMESAKE = replace(HAIR, name='noise')", "its name 'noise' is that of a law of the package"),
}


@pytest.fixture
def place(tmp_path, monkeypatch):
    """A folder on the path, with the module of the documentation, and others that are not as they should be."""
    wrong = "\n".join(line for line, _ in BROKEN.values())
    (tmp_path / "my_laws.py").write_text(EXAMPLE)
    (tmp_path / "wrong_laws.py").write_text(
        f"from dataclasses import replace\nfrom my_laws import HAIR\n{wrong}\nHAIR2 = HAIR\n"
    )
    for module in ("my_laws", "wrong_laws"):
        monkeypatch.delitem(sys.modules, module, raising=False)
    monkeypatch.syspath_prepend(tmp_path)
    return tmp_path


def test_it_is_chosen_by_name_beside_others(place):
    hair, noise = variability.select(("my_laws:HAIR", "noise"))
    assert (hair.name, noise) == ("hair", variability.NOISE)
    image = jnp.full((20, 12, 12, 1), 0.5, jnp.float32)
    altered = np.asarray(variability.alter(jax.random.key(0), hair, image, jnp.asarray([0.0, 1.0], jnp.float32)))
    assert np.array_equal(altered[0], image)
    assert 0.03 < 0.5 - altered[1].mean() < 0.07  # a line 0.18 wide of 4, about 2 long, of grey 0.5
    with pytest.raises(InputError, match="hair: made for 2 axes"):
        variability.suited(("my_laws:HAIR",), (8, 8, 8, 1))


@pytest.mark.parametrize("name", BROKEN)
def test_what_is_no_law_is_refused_in_a_line(place, name):
    with pytest.raises(InputError, match=BROKEN[name][1]) as told:
        variability.select((f"wrong_laws:{name}",))
    assert str(told.value).startswith(f"wrong_laws:{name}: ")
    assert "\n" not in str(told.value)


def test_what_is_not_there_is_refused_in_a_line(place):
    for name, words in (("nowhere:HAIR", "No module named 'nowhere'"), ("my_laws:LACE", "no attribute 'LACE'")):
        with pytest.raises(InputError, match=f"{name}: .*{words}; give module:OBJECT that can be imported"):
            variability.select((name,))
    with pytest.raises(InputError, match="both are called 'hair'"):
        variability.select(("my_laws:HAIR", "wrong_laws:HAIR2"))


def test_it_counts_in_the_digest_of_a_cell_and_goes_to_other_processes(place, monkeypatch):
    cohort = phantoms.phantom(jax.random.key(0), n_patients=30, size=16)
    plan = running.Plan(cohort, None, design.select(["untrained"]), variability.select(["my_laws:HAIR"]))

    def digest(plan):
        return running.digest(("a", "a"), plan, plan.designs[0], 0)

    first = digest(plan)
    assert digest(replace(plan, shifts=variability.select(["my_laws:HAIR"]))) == first
    assert digest(cloudpickle.loads(cloudpickle.dumps(plan))) == first
    (place / "my_laws.py").write_text(EXAMPLE.replace("/ 0.1", "/ 0.3"))  # a wider hair, the same name, unit and levels
    monkeypatch.delitem(sys.modules, "my_laws")
    assert digest(replace(plan, shifts=variability.select(["my_laws:HAIR"]))) != first


def test_a_recipe_takes_it(place):
    assert recipes.Alteration("my_laws:HAIR", level=2).variability == "my_laws:HAIR"
    assert benchmark._severity(recipes.Alteration("my_laws:HAIR", level=2)) == 0.4
    with pytest.raises(InputError, match="nowhere:HAIR"):
        recipes.Alteration("nowhere:HAIR", level=2)


@pytest.mark.exhaustive
def test_the_commands_of_the_page(place):
    """A sheet, and a study with its forecast on two processes; a wrong name is one line."""
    cohort = phantoms.phantom(jax.random.key(2), n_patients=60, size=16)
    images = (255 * np.asarray(cohort.image[..., 0])).round().astype(np.uint8)
    np.savez(place / "chest.npz", images=images, labels=cohort.label, patient=cohort.patient, split=cohort.split)
    quiet = {k: v for k, v in os.environ.items() if k not in ("JAX_ENABLE_X64", "JAX_NUMPY_RANK_PROMOTION")}
    path = os.pathsep.join([str(place), str(PAGE.parents[1])])

    def rafmodel(*arguments):
        command = [sys.executable, "-m", "rafmodel", *arguments]
        env = quiet | {"PYTHONPATH": path}
        return subprocess.run(command, capture_output=True, text=True, cwd=place, env=env, check=False)

    sheet = rafmodel("cohort", "show", "--cohort", "chest.npz", "--variability", "my_laws:HAIR", "--sheet", "hair.png")
    assert sheet.returncode == 0, sheet.stderr
    assert (place / "hair.png").stat().st_size > 1000
    chosen = ("--cohort", "chest.npz", "--designs", "untrained", "--shifts", "my_laws:HAIR", "noise")
    study = rafmodel("study", *chosen, "--seeds", "1", "--executor", "local:2", "--out", "out")
    assert study.returncode == 0, study.stderr
    assert "hair" in study.stdout
    table = xr.load_dataset(place / "out" / "study.nc", engine="h5netcdf")
    assert list(table["shift"].values) == ["hair", "noise"]
    assert table["level_value"].sel(shift="hair").values.tolist()[-1] == pytest.approx(1.0)
    refused = rafmodel("predict", "--cohort", "chest.npz", "--shifts", "my_laws:LACE")
    assert refused.returncode == 2
    assert "my_laws:LACE" in refused.stderr
    assert "Traceback" not in refused.stderr
