# SPDX-License-Identifier: MIT
"""Settings: where they come from, what is refused and how, and the hash that names them."""

from __future__ import annotations

from pathlib import Path

import pytest

from lmc_fast.studies.cells import measurement_columns
from lmc_fast.studies.config import CONFIG_TYPES, LearningRateConfig, StudyConfig, WidthConfig
from lmc_fast.studies.errors import ConfigError
from lmc_fast.studies.presets import config_from_json, difference, load_config, to_toml

DATA = {"theory": ("teacher",), "depth": ("digits", "mnist")}
GPU = ("quick", "full", "gpu")
PRESETS = {("width", "mnist"): GPU, ("learning-rate", "mnist"): GPU}
ALL = [
    (study, data, preset)
    for study in CONFIG_TYPES
    for data in DATA.get(study, ("teacher", "digits", "mnist"))
    for preset in PRESETS.get((study, data), ("quick", "full"))
]


@pytest.mark.parametrize(("study", "data", "preset"), ALL)
def test_presets_survive_json_and_toml(study: str, data: str, preset: str, tmp_path: Path) -> None:
    config = load_config(study, data=data, preset=preset)  # type: ignore[arg-type]
    assert config.problem.data == data
    assert config_from_json(config.canonical()) == config
    file = tmp_path / "config.toml"
    file.write_text(to_toml(config))
    assert load_config(study, file=file).digest() == config.digest()  # type: ignore[arg-type]


def test_full_presets_are_larger_than_quick_ones() -> None:
    for study in CONFIG_TYPES:
        quick, full = (load_config(study, preset=p) for p in ("quick", "full"))  # type: ignore[arg-type]
        assert full.pairs > quick.pairs
        assert study == "theory" or full.steps > quick.steps


def test_a_preset_that_data_lacks_is_named() -> None:
    with pytest.raises(ConfigError, match="'width' of data 'digits' has presets quick, full; got"):
        load_config("width", data="digits", preset="gpu")


@pytest.mark.parametrize("study", ["width", "learning-rate"])
def test_the_gpu_preset_lies_over_the_full_one(study: str) -> None:
    full, gpu = (load_config(study, data="mnist", preset=p) for p in ("full", "gpu"))  # type: ignore[arg-type]
    assert isinstance(full, StudyConfig)
    assert isinstance(gpu, StudyConfig)
    assert gpu.problem.train_samples == 60000  # type: ignore[union-attr]
    assert gpu.pairs > full.pairs
    assert gpu.steps > full.steps
    assert gpu.init_scale == full.init_scale


def test_hash_is_the_same_in_every_process() -> None:
    config = WidthConfig(pairs=2, widths=(3, 4))
    text = (
        '{"alive_threshold":0.001,"alphas":25,"batch_size":null,"definition":"chord",'
        '"dtype":"float64","first_seed":0,"init_scale":0.1,"init_scale_per_width":false,'
        '"lr":4.0,"lr_per_width":true,'
        '"matchings":["none","gap","weights"],"method":"population_gd","pairs":2,'
        '"problem":{"converged_loss":0.0001,"d":10,"data":"teacher","inputs":"gaussian",'
        '"radius":1.0,"samples":null,"samples_seed":0,"teacher_kind":"orthonormal",'
        '"teacher_seed":0,"teacher_width":5},"steps":2500,"steps_per_neuron":0,"study":"width",'
        '"tail_from":null,"tol":0.0,"train_w2":null,"w2_scale":1.0,"widths":[3,4]}'
    )
    assert config.canonical() == text
    # From `printf %s "$text" | sha256sum`.
    assert config.digest() == "66e6279196c3da47"


def test_hash_ignores_how_a_number_is_written_and_sees_its_value() -> None:
    one = load_config("width", overrides=["lr=4"])
    assert one.digest() == load_config("width", overrides=["lr=4.0"]).digest()
    assert one.digest() != load_config("width", overrides=["lr=4.5"]).digest()


def test_file_lies_over_preset_and_override_over_file(tmp_path: Path) -> None:
    file = tmp_path / "config.toml"
    file.write_text("pairs = 7\nsteps = 11\n[problem]\nd = 12\n")
    config = load_config("width", file=file, overrides=["steps=13", "problem.teacher_width=6"])
    assert (config.pairs, config.steps) == (7, 13)
    assert config.problem.d == 12  # type: ignore[union-attr]
    assert config.problem.teacher_width == 6  # type: ignore[union-attr]


def test_data_of_the_file_chooses_the_preset(tmp_path: Path) -> None:
    file = tmp_path / "config.toml"
    file.write_text('[problem]\ndata = "digits"\n')
    assert load_config("width", file=file).method == "sgd"
    with pytest.raises(ConfigError, match="'digits' in the configuration but --data says 'mnist'"):
        load_config("width", file=file, data="mnist")


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("widhts=[3]", "unknown setting 'widhts'; the nearest valid one is 'widths'"),
        ("problem.teecher_width=3", "nearest valid one is 'problem.teacher_width'"),
        ("foo=3", "unknown setting 'foo': --print-config shows every one"),
        ("problem.foo=3", "unknown setting 'problem.foo': --print-config shows every one"),
        ("d=3", "unknown setting 'd'; the nearest valid one is 'problem.d'"),
        ("widths=5", r"setting 'widths': must be a list, such as \[5\]; got 5"),
        ("widths=[3.5]", r"setting 'widths.0': must be a whole number; got 3\.5"),
        ("lr=x", "setting 'lr': must be a number; got 'x'"),
        ("train_w2=3", "setting 'train_w2': must be true or false; got 3"),
        ("problem=3", "setting 'problem': must be a table, set key by key"),
        ("pairs=-1", "setting 'pairs': input should be greater than or equal to 1; got -1"),
        ("pairs=many", "setting 'pairs': .* got 'many'"),
        ("lr=nan", "setting 'lr': .*finite"),
        ("widths=[5,4]", r"setting 'widths': must rise strictly and not be empty; got \[5, 4\]"),
        ("widths=[]", "setting 'widths': must rise strictly"),
        ("matchings=['gap','gap']", "setting 'matchings': needs at least one name, none .* twice"),
        ("matchings=['gab']", "setting 'matchings.0': .*'gap'.*; got 'gab'"),
        ("problem.teacher_width=30", "teacher_width must be at most d = 10 .* raise d or take"),
        ("problem.data=flowers", "problem.data must be one of teacher, digits, mnist"),
        ("method=sgd", "batch_size goes with methods 'sgd' and 'adam' and only with them"),
        (
            "method=adam",
            "with a teacher take method = 'population_gd', 'sgd', or 'gd' with problem.samp",
        ),
        ("problem.loss=mse", "'problem.loss' does not go with data 'teacher'"),
        ("method=gd", "method 'gd' trains on a fixed sample"),
        ("batch_size=8", "got method 'population_gd' and batch_size 8: set batch_size=none"),
        ("study=learning-rate", "--set study is for another study; got the command 'study width'"),
        ("problem.data=[1]", r"problem.data must be one of teacher, digits, mnist; got \[1\]"),
        ("problem.train_samples=3", "'problem.train_samples' does not go with data 'teacher'"),
        ("matchings=['activations']", "'activations' needs samples"),
        ("pairs", "--set must be KEY=VALUE"),
        ("=3", "--set must be KEY=VALUE"),
    ],
)
def test_wrong_settings_are_named(override: str, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        load_config("width", overrides=[override])


@pytest.mark.parametrize("alphas", [2, 24])
def test_a_midpoint_needs_an_odd_number_of_alphas(alphas: int) -> None:
    overrides = ["definition=midpoint", f"alphas={alphas}"]
    with pytest.raises(ConfigError, match=f"needs the point alpha = 1/2, .* got {alphas}: take an"):
        load_config("width", overrides=overrides)
    assert load_config("width", overrides=["definition=midpoint", "alphas=25"]).alphas == 25


def test_a_bracket_narrower_than_can_be_reached_is_refused() -> None:
    with pytest.raises(ConfigError, match=r"bracket_tolerance.: .* equal to 0\.000001; got 1e-17"):
        load_config("learning-rate", overrides=["bracket_tolerance=1e-17"])


def test_none_unsets_what_the_preset_has_set(tmp_path: Path) -> None:
    overrides = ["method=gd", "batch_size=none", "tail_from=none"]
    config = load_config("width", data="digits", overrides=overrides)
    assert isinstance(config, WidthConfig)
    assert (config.method, config.batch_size, config.tail_from) == ("gd", None, None)
    file = tmp_path / "config.toml"
    file.write_text(to_toml(config))
    assert load_config("width", file=file) == config


def test_population_descent_on_images_is_refused() -> None:
    with pytest.raises(ConfigError, match="'population_gd' needs a teacher; data 'digits'"):
        load_config("width", data="digits", overrides=["method=population_gd"])


def test_every_fault_is_told_at_once() -> None:
    with pytest.raises(ConfigError, match=r"'pairs'.*; .*'steps'"):
        load_config("width", overrides=["pairs=0", "steps=0"])


def test_unreadable_files(tmp_path: Path) -> None:
    file = tmp_path / "config.toml"
    with pytest.raises(ConfigError, match=r"cannot read .*config\.toml: No such file"):
        load_config("width", file=file)
    file.write_text("pairs = = 3")
    with pytest.raises(ConfigError, match=r"config\.toml is not valid TOML: .*line 1"):
        load_config("width", file=file)
    file.write_bytes(b"\xff\xfe")
    with pytest.raises(ConfigError, match="not valid TOML"):
        load_config("width", file=file)


def test_a_file_of_the_other_study_is_refused(tmp_path: Path) -> None:
    file = tmp_path / "config.toml"
    file.write_text('study = "learning-rate"\n')
    with pytest.raises(ConfigError, match="is for another study; got the command 'study width'"):
        load_config("width", file=file)


def test_difference_names_key_stored_and_given() -> None:
    one = load_config("width", overrides=["pairs=2"])
    other = load_config("width", overrides=["pairs=3", "problem.d=11"])
    assert difference(one.canonical(), other.canonical()) == [
        "pairs: stored 2, given 3",
        "problem.d: stored 10, given 11",
    ]
    assert difference(one.canonical(), one.canonical()) == []


def test_neurons_are_not_counted_beyond_the_end_of_training() -> None:
    """The presets count up to their own last step, which an override may bring forward."""
    config = load_config("learning-rate", overrides=["steps=200"])
    assert isinstance(config, LearningRateConfig)
    assert config.counted_steps == (100, 150, 200)
    counted = {name for name in measurement_columns(config) if name.startswith("alive_at")}
    assert counted == {f"alive_at_{step}_{side}" for step in (100, 150, 200) for side in "ab"}
    full = load_config("learning-rate", preset="full")
    assert isinstance(full, LearningRateConfig)
    assert full.counted_steps == full.alive_steps
