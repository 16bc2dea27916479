"""Job files and overrides: what they say is what is set, and what is wrong is said in a sentence."""

from pathlib import Path

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from ray_cxr.config import dotted, overlaid, read_settings, setting_names, to_yaml
from ray_cxr.errors import InputError
from ray_cxr.job import Job, load_job
from ray_cxr.labels.settings import NihSource, PhantomSource
from ray_cxr.tune.settings import SearchRecipe


@pytest.fixture
def job(tmp_path: Path):  # type: ignore[no-untyped-def]
    """Loads a job from text and overrides."""

    def load(text: str, *overrides: str) -> Job:
        path = tmp_path / "job.yaml"
        path.write_text(text, encoding="utf-8")
        return load_job(path, overrides)

    return load


@pytest.fixture
def refusal(job):  # type: ignore[no-untyped-def]
    """The sentence with which a job is refused."""

    def load(text: str, *overrides: str) -> str:
        with pytest.raises(InputError) as caught:
            job(text, *overrides)
        assert caught.value.exit_code == 2
        return caught.value.message

    return load


def test_no_file_and_an_empty_file_are_the_defaults(job) -> None:  # type: ignore[no-untyped-def]
    assert load_job(None) == job("") == job("# only a remark\n") == Job()


def test_values_of_the_file_stand_over_defaults_and_overrides_over_the_file(job) -> None:  # type: ignore[no-untyped-def]
    settings = job("seed: 7\ntrain: {epochs: 3, workers: 2}\n", "train.epochs=5", "model.backbone=resnet34")
    assert (settings.seed, settings.train.epochs, settings.train.workers) == (7, 5, 2)
    assert settings.model.backbone == "resnet34"
    assert settings.stream == Job().stream


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("train: {epoch: 3}", "train.epoch: unknown setting; did you mean train.epochs?"),
        ("trian: {epochs: 3}", "trian: unknown setting; did you mean train?"),
        ("learning_rate: 0.1", "learning_rate: unknown setting; did you mean train.learning_rate?"),
        ("source: [{kind: phantom, patient: 4}]", "source.0.patient: unknown setting; did you mean source.0.patients?"),
        ("loss: {xyzzy: 3}", "loss.xyzzy: unknown setting; known here: kind, prevalence, weights, gamma, gamma_positive, gamma_negative, clip, drop_unlearnable."),
    ],
)  # fmt: skip
def test_unknown_key_is_refused_with_the_nearest_name(refusal, text: str, sentence: str) -> None:  # type: ignore[no-untyped-def]
    assert refusal(text) == sentence


def test_unknown_key_of_an_override_is_refused_too(refusal) -> None:  # type: ignore[no-untyped-def]
    assert refusal("", "train.epoch=3") == "train.epoch: unknown setting; did you mean train.epochs?"


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("train: {epochs: 0}", "train.epochs: got 0, but input should be greater than or equal to 1."),
        ("train: {learning_rate: .nan}", "train.learning_rate: got nan, but input should be a finite number."),
        ("loss: {kind: mse}", "loss.kind: got 'mse', but input should be 'weighted_bce', 'bce', 'focal' or 'asymmetric'."),
        ("model: {freeze_depth: -1}",
         "model.freeze_depth: got -1, but input should be greater than or equal to 0, or input should be 'head'."),
        ("findings: Mass", "findings: got 'Mass', but input should be a valid list."),
        (
            "dataset: off",
            "dataset: got False, but input should be a valid string; YAML reads on, off, yes and no as that, so put "
            "quotes around the word.",
        ),
        ("source: {kind: ct}", "source.0.kind: got 'ct', but allowed are 'phantom', 'nih', 'csv', 'folder'."),
        ("train: {epochs: null}", "train.epochs: got null, but input should be a valid integer."),
        (
            "train: {epochs: 3, warmup_epochs: 3.5}",
            "train.warmup_epochs: got 3.5, but train.epochs is 3, so train.learning_rate would never be reached; use no more than "
            "train.epochs.",
        ),
        (
            "{stream: {batch_size: 8}, train: {accumulate: 9}}",
            "train.accumulate: got 9, but a step has 8 films (stream.batch_size), and a micro-batch at least one; use at most 8.",
        ),
        ("source: {patients: 5}", "source.0: the key `kind`, which says what this is, is missing."),
    ],
)  # fmt: skip
def test_wrong_value_is_refused_with_what_was_got_and_what_is_allowed(
    refusal, text: str, sentence: str
) -> None:  # type: ignore[no-untyped-def]
    assert refusal(text) == sentence


def test_missing_setting_is_named_with_what_it_means(refusal) -> None:  # type: ignore[no-untyped-def]
    sentence = refusal("source: {kind: nih, images: films}")
    assert sentence.startswith("source.0.labels: this setting is required (The Data_Entry CSV, plain or .gz")


def test_each_problem_has_a_line(refusal) -> None:  # type: ignore[no-untyped-def]
    lines = refusal("seed: x\ntrain: {epoch: 3, epochs: 0}").splitlines()
    assert sorted(line.split(":")[0] for line in lines) == ["seed", "train.epoch", "train.epochs"]


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("a: [1", "is not valid YAML at line 1, column 6: expected ',' or ']'"),
        ("seed: 1\n\tout: x", "is not valid YAML at line 2"),
        ("- 1", "must hold settings as `key: value`, but holds a list."),
        ("hello", "but holds a str."),
        ("out: !!python/object/apply:os.getcwd []", "could not determine a constructor"),
        ("seed: 1\nout: a\nseed: 2", "at line 3, column 1: the key 'seed' stands twice."),
        ("train:\n  epochs: 1\n  epochs: 2", "at line 3, column 3: the key 'epochs' stands twice."),
    ],
)
def test_file_that_is_no_job_is_refused_with_the_place(refusal, text: str, sentence: str) -> None:  # type: ignore[no-untyped-def]
    assert sentence in refusal(text)


def test_anchors_and_merges_are_allowed(job) -> None:  # type: ignore[no-untyped-def]
    text = "train: &t {epochs: 3}\n"
    assert job(text).train.epochs == 3
    source = "source: [&s {kind: phantom, patients: 8}, {<<: *s, patients: 9}]"
    assert [s.patients for s in job(source).source] == [8, 9]


def test_file_that_cannot_be_read_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"nowhere.yaml' does not exist"):
        load_job(tmp_path / "nowhere.yaml")
    with pytest.raises(InputError, match="cannot be read as UTF-8 text"):
        load_job(tmp_path)
    (tmp_path / "latin.yaml").write_bytes(b"out: r\xfcn\n")
    with pytest.raises(InputError, match="cannot be read as UTF-8 text"):
        load_job(tmp_path / "latin.yaml")


@pytest.mark.parametrize(
    ("override", "sentence"),
    [
        ("seed", "must look like key=value, for example train.epochs=3"),
        ("=3", "must look like key=value"),
        ("seed=[1", "the value is not valid YAML; quote it"),
        ("seed.x=3", "seed is a plain value, nothing lies below it"),
        ("source.1.patients=8", "'1' must be a position from 0 to 0 here"),
        ("source.patients=8", "'patients' must be a position from 0 to 0 here"),
    ],
)
def test_override_that_leads_nowhere_is_refused(refusal, override: str, sentence: str) -> None:  # type: ignore[no-untyped-def]
    message = refusal("seed: 1\nsource: [{kind: phantom}]", override)
    assert message.startswith(f"override {override!r}") and sentence in message


def test_overrides_are_read_as_yaml(job) -> None:  # type: ignore[no-untyped-def]
    settings = job(
        "", "train.learning_rate=1e-3", "findings=[Mass, Edema]", "train.clip_norm=null", "out=a=b",
        "model.freeze_depth=head", "train.gpu=false",
    )  # fmt: skip
    assert settings.train.learning_rate == 0.001
    assert settings.findings == ["Mass", "Edema"]
    assert settings.train.clip_norm is None and settings.train.gpu is False
    assert (settings.out, settings.model.freeze_depth) == ("a=b", "head")


def test_number_in_an_override_steps_into_a_list(job) -> None:  # type: ignore[no-untyped-def]
    text = "source: [{kind: phantom, patients: 8}, {kind: phantom, patients: 9}]"
    assert [s.patients for s in job(text, "source.1.patients=11").source] == [8, 11]


def test_source_is_one_mapping_or_a_list(job) -> None:  # type: ignore[no-untyped-def]
    one = job("source: {kind: nih, images: films, labels: entry.csv}").source
    assert one == job("source: [{kind: nih, images: [films], labels: entry.csv}]").source
    assert one == [NihSource(images=["films"], labels="entry.csv")]
    both = job("source: [{kind: phantom}, {kind: nih, images: films, labels: entry.csv}]").source
    assert [type(s) for s in both] == [PhantomSource, NihSource]


@pytest.mark.parametrize(
    ("text", "overrides"),
    [
        ("stream: {flip: 0.5}", []),
        ("stream: {augmentation: hflip}", []),
        ("stream: {augmentation: {kind: chest-xray, flip: true}}", []),
        ("", ["stream.horizontal_flip=true"]),
        ("stream: {Mirror: true}", []),
    ],
)
def test_flip_is_refused_because_it_shows_dextrocardia(refusal, text: str, overrides: list[str]) -> None:  # type: ignore[no-untyped-def]
    sentence = refusal(text, *overrides)
    assert sentence.startswith("stream: a chest film is never flipped left to right")
    assert "dextrocardia" in sentence and "stream.augmentation=chest-xray" in sentence
    assert "\n" not in sentence


def test_effective_settings_make_the_same_job_again(job) -> None:  # type: ignore[no-untyped-def]
    settings = job(
        "findings: [Mass, Ödem]\nsource: {kind: nih, images: a, labels: b}", "train.learning_rate=3e-5"
    )
    text = to_yaml(settings)
    assert job(text) == settings
    assert list(yaml.safe_load(text)) == list(Job.model_fields)
    assert "Ödem" in text


@given(st.floats(1e-12, 1e3), st.integers(0, 2**32 - 1))
def test_numbers_survive_the_file_exactly(tmp_path_factory, rate: float, seed: int) -> None:  # type: ignore[no-untyped-def]
    path = tmp_path_factory.mktemp("job") / "job.yaml"
    settings = Job.model_validate({"seed": seed, "train": {"learning_rate": rate}})
    path.write_text(to_yaml(settings))
    assert load_job(path) == settings


def test_settings_are_frozen() -> None:
    with pytest.raises(ValueError, match="frozen"):
        Job().train.epochs = 5  # type: ignore[misc]


def test_every_setting_is_documented() -> None:
    schema = Job.model_json_schema()
    for name, part in {"Job": schema, **schema["$defs"]}.items():
        for setting, value in part["properties"].items():
            # A setting that is a group of settings may leave the sentence to the group.
            group = schema["$defs"].get(value.get("$ref", "").rpartition("/")[2], {})
            assert value.get("description") or group.get("description"), f"{name}.{setting}"


def test_one_source_may_be_reached_as_the_first_of_a_list(job, refusal) -> None:  # type: ignore[no-untyped-def]
    text = "source: {kind: nih, images: a, labels: b}"
    assert job(text, "source.0.views=[PA]") == job(text, "source.views=[PA]")
    sentence = "source is one mapping here and no list; write source.KEY=VALUE"
    assert sentence in refusal(text, "source.1.views=[PA]")


def test_a_group_of_settings_inside_a_source_is_checked_by_name(refusal) -> None:  # type: ignore[no-untyped-def]
    text = "source: {kind: csv, images: a, labels: b, columns: {imge: x}}"
    assert refusal(text) == "source.0.columns.imge: unknown setting; did you mean source.0.columns.image?"


def test_dotted_names_and_back() -> None:
    nested = {"seed": 3, "train": {"epochs": 2, "warmup_epochs": 1.0}}
    assert dotted(nested) == {"seed": 3, "train.epochs": 2, "train.warmup_epochs": 1.0}
    changed = overlaid(nested, {"train.epochs": 9, "model.backbone": "resnet18"})
    assert changed == {
        "seed": 3,
        "train": {"epochs": 9, "warmup_epochs": 1.0},
        "model": {"backbone": "resnet18"},
    }
    assert nested["train"] == {"epochs": 2, "warmup_epochs": 1.0}


def test_names_of_settings_are_those_that_hold_a_value() -> None:
    names = set(setting_names(Job))
    assert {"seed", "train.epochs", "model.unfreeze", "stream.augmentation_strength"} <= names
    assert not names & {"train", "model", "stream", "loss"}


@pytest.mark.parametrize(
    ("values", "sentence"),
    [
        ("{low: 0.1, high: 0.01}", "tune.space.train.learning_rate: low is 0.1 and high is 0.01, but low must be less than high."),
        ("[]", "tune.space.train.learning_rate: got [], but it must have 1 or more."),
        ("0.3", "tune.space.train.learning_rate: got 0.3, but this holds settings of its own, as key: value."),
        ("{choice: [1]}", "tune.space.train.learning_rate.choice: unknown setting; did you mean tune.space.train.learning_rate.choices?"),
        ("[{choices: [1]}, {low: 3}]", "tune.space.train.learning_rate.1: give choices, or a range with low and high."),
    ],
)  # fmt: skip
def test_one_sentence_for_the_type_that_was_meant(values: str, sentence: str) -> None:
    with pytest.raises(InputError) as refused:
        read_settings(
            SearchRecipe, None, ["dataset=a", "out=b", f"tune.space={{train.learning_rate: {values}}}"]
        )
    assert refused.value.message == sentence


def test_a_number_with_an_exponent_is_a_number(tmp_path: Path) -> None:
    file = tmp_path / "job.yaml"
    file.write_text(
        "dataset: a\nout: b\ntune: {space: {train.learning_rate: {choices: [3e-3, 1E-4, -1.5e+2, .5e1]}}}\n"
    )
    read = read_settings(SearchRecipe, file).model_dump()
    assert read["tune"]["space"]["train.learning_rate"]["choices"] == [0.003, 0.0001, -150, 5]
    over = read_settings(
        SearchRecipe, file, ["tune.space={train.learning_rate: {choices: [1e-3, a1e3, 12e]}}"]
    ).model_dump()
    assert over["tune"]["space"]["train.learning_rate"]["choices"] == [0.001, "a1e3", "12e"]
