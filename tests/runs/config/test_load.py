"""Loading, checking and saving configurations; every error is one line that names the key and the way out."""

from dataclasses import replace

import pytest
import yaml

from samseg.common.errors import ConfigError, InputError
from samseg.encoders.adapters.methods import METHODS, arguments_of
from samseg.encoders.registry import ROWS, WeightsFile
from samseg.runs.config.load import load_config, save_config
from samseg.runs.config.schema import RunConfig
from samseg.runs.folder import read_run_config

CLASSES = "data: {classes: {background: 0, building: 255}}\n"


@pytest.fixture
def load(tmp_path):
    """load(yaml text, *overrides) -> RunConfig"""

    def write_and_load(text: str = CLASSES, *overrides: str) -> RunConfig:
        path = tmp_path / "run.yaml"
        path.write_text(text, encoding="utf-8")
        return load_config(path, list(overrides))

    return write_and_load


def test_file_and_overrides_are_read_into_typed_values(load):
    text = "train: {lr: 1e-3, epochs: 3, loss: {dice: 2}}\nmodel: {weights: null}\nrun_dir:\n" + CLASSES
    config = load(
        text, "train.lr=5e-4", "model.decoder.decoder_channels=[64,32]", "data.classes.tree=3", "run_dir=2024_01"
    )
    assert (config.train.lr, config.train.epochs, config.model.weights) == (5e-4, 3, None)
    assert config.model.decoder == {"decoder_channels": [64, 32]}
    assert list(config.data.classes.items()) == [("background", 0), ("building", 255), ("tree", 3)]
    assert config.run_dir == "2024_01"  # YAML would read the number 202401
    assert load("train: {lr: 1e-3}\n" + CLASSES).train.lr == 1e-3  # a string to plain YAML 1.1


def test_an_override_replaces_a_mapping_whole(load):
    assert load(CLASSES, "data.classes={road: 1, rest: 2}").data.classes == {"road": 1, "rest": 2}


def test_an_empty_section_means_its_defaults(load):
    assert load("train:\n" + CLASSES).train.epochs == RunConfig().train.epochs


def test_size_and_colours_are_those_that_the_encoder_was_trained_with(load, monkeypatch):
    sources = WeightsFile("nobody/a", 1, tag="photos"), WeightsFile("nobody/b", 1, tag="satellite")
    colours = {"satellite": ((0.1, 0.2, 0.3), (0.4, 0.5, 0.6))}
    row = replace(ROWS["sam-vit_t"], files=sources, image_size=224, mean=(0.5,) * 3, colours_of_tag=colours)
    monkeypatch.setitem(ROWS, "elsewhere", row)

    def data(*overrides: str) -> tuple[object, ...]:
        found = load(CLASSES, *overrides).data
        return found.image_size, found.mean, found.std

    imagenet = [0.485, 0.456, 0.406], [0.229, 0.224, 0.225]
    assert data() == data("model.encoder=resnet18") == (1024, *imagenet)
    assert data("model.encoder=elsewhere") == (224, [0.5] * 3, imagenet[1])
    satellite = "model.encoder=elsewhere", "model.weights=satellite"
    assert data(*satellite, "data.image_size=64") == (64, [0.1, 0.2, 0.3], [0.4, 0.5, 0.6])
    assert data(*satellite, "data.bands=[1,2,3,4]")[1] == [0.1, 0.2, 0.3, 0.1]
    given = data(*satellite, "data.mean=[0.485,0.456,0.406]")
    assert given == (224, imagenet[0], [0.4, 0.5, 0.6])


@pytest.mark.parametrize(
    "loss, expected",
    [
        ("", (1.0, 0.0, 0.0, 0.0)),
        ("dice: 1", (0.0, 1.0, 0.0, 0.0)),
        ("{ce: 1, lovasz: 0.5, focal: null}", (1.0, 0.0, 0.0, 0.5)),
    ],
)
def test_only_the_named_losses_are_on(load, loss, expected):
    if not loss.startswith("{"):
        loss = f"{{{loss}}}"
    got = load(f"train: {{loss: {loss}}}\n{CLASSES}").train.loss
    assert (got.ce, got.dice, got.focal, got.lovasz) == expected


def test_encoder_lr_follows_from_lr_and_weights(load):
    assert load(CLASSES, "train.lr=0.01").train.encoder_lr == pytest.approx(0.001)
    assert load(CLASSES, "train.lr=0.01", "model.weights=null").train.encoder_lr == 0.01
    assert load(CLASSES, "train.lr=0.01", "train.encoder_lr=0.5").train.encoder_lr == 0.5


def test_layer_decay_is_the_encoders_where_what_it_learnt_is_fine_tuned(load):
    def decay(*overrides: str) -> float:
        return load(CLASSES, *overrides).train.layer_decay

    free = "model.freeze_encoder=false"
    assert decay(free) == 0.6 and decay(free, "model.encoder=sam2-hiera_t") == 0.9
    assert decay(free, "train.layer_decay=1") == 1 and decay(free, "train.layer_decay=0.65") == 0.65
    for nothing_to_keep in (["model.weights=null"], ["model.encoder=pe-vit_s"], ["model.encoder=resnet18"]):
        assert decay(free, *nothing_to_keep) == 1
    assert decay() == 1


def test_class_weights_left_out_are_one(load):
    weights = load(CLASSES, "train.loss.class_weights={building: 3}").train.loss.class_weights
    assert weights == {"background": 1.0, "building": 3.0}


@pytest.mark.parametrize(
    "override, message",
    [
        ("train.lrr=1", "unknown key train.lrr; did you mean train.lr?"),
        ("--train.lr=1", "unknown key --train.*did you mean train"),
        ("lr=1", "unknown key lr; did you mean train.lr?"),
        ("train.augment=[]", "unknown key train.augment; did you mean data.augment?"),
        ("trian.lr=1", "unknown key trian; did you mean train?"),
        ("train.loss.dise=1", "unknown key train.loss.dise; did you mean train.loss.dice?"),
        ("model.zzz=1", "unknown key model.zzz; valid keys here are model.arch, model.encoder"),
        ("train.epochs=ten", "train.epochs must be an integer, got 'ten'"),
        ("train.epochs=2.5", "train.epochs must be an integer, got 2.5"),
        ("train.epochs=true", "train.epochs must be an integer, got True"),
        ("train.lr=fast", "train.lr must be a number, got 'fast'"),
        ("train.resume=1", "train.resume must be true or false, got 1"),
        ("train.resume='true'", "train.resume must be true or false, got 'true'"),
        ("train.patience=soon", "train.patience must be an integer or null, got 'soon'"),
        ("train.lr=", "train.lr must be a number, got None"),
        ("train.lr.x=1", "train.lr must be a number, got {'x': 1}"),
        ("train=5", "train is a section .*got 5"),
        ("data.mean=[1,a,2]", "data.mean must be a list of numbers"),
        ("data.classes=[a,b]", "data.classes must be a mapping"),
        ("data.classes={1: 0}", "data.classes must be a mapping.*needs quotes"),
        ("model.decoder=[1]", "model.decoder must be a mapping"),
        ("model.arch=[unet]", "model.arch must be text"),
        ("data.image_size=1000", "data.image_size must be a multiple of 16, got 1000; try 1008"),
        ("data.image_size=999", "try 992"),
        ("data.image_size=0", "got 0; try 16"),
        ("data.image_size=-512", "got -512; try 16"),
        ("data.std=[0,1,1]", "data.std .*std at least 0.0001"),
        ("data.mean=[123.7,116.3,103.5]", "data.mean is given on the scale 0..1.*divide by 255"),
        ("data.mean=[0.5]", "data.mean must hold 3 numbers"),
        ("train.lr=0", "train.lr must be above 0, got 0"),
        ("train.lr=.inf", "train.lr must be above 0"),
        ("train.lr=.nan", "train.lr must be above 0"),
        ("train.encoder_lr=-1", "train.encoder_lr must be above 0"),
        ("train.epochs=0", "train.epochs must be from 1 to 1 000 000, got 0"),
        ("train.batch_size=0", "train.batch_size must be from 1 to 1 000 000"),
        ("train.batch_size=2.5", "train.batch_size must be an integer or auto, got '2.5'"),
        ("train.batch_size=most", "train.batch_size must be an integer or auto, got 'most'"),
        ("train.accumulate=0", "train.accumulate must be from 1 to 1 000 000"),
        ("train.patience=0", "train.patience must be from 1 to 1 000 000"),
        ("train.workers=-1", "train.workers must be from 0 to 1024"),
        ("train.clip_norm=0", "train.clip_norm must be above 0"),
        ("train.weight_decay=-0.1", "train.weight_decay must be at least 0"),
        ("train.pyramid_lr=0", "train.pyramid_lr must be above 0"),
        ("train.layer_decay=0", "train.layer_decay must be above 0 and at most 1"),
        ("train.layer_decay=1.1", "train.layer_decay must be above 0 and at most 1"),
        ("train.layer_decay=0.8", "train.layer_decay=0.8 does nothing while model.freeze_encoder is true"),
        ("train.gradient_checkpointing=true", "does nothing while the encoder is frozen without an adapter"),
        ("model.adapter=lora", "model.adapter must be a mapping of names to values .* or null, got 'lora'"),
        ("model.adapter.name=lorra", "name must be one of lora, conv_lora, .*, got 'lorra'; did you mean 'lora'?"),
        ("model.adapter.name=[lora]", r"model.adapter.name must be one of lora, .*, got \['lora'\]"),
        ("model.adapter.rank=1", "model.adapter.rank needs a method: set model.adapter.name to lora, .*null for none"),
        ("model.adapter={name: null, rank: 1}", "model.adapter.rank needs a method"),
        ("model.adapter={name: lora, rnk: 1}", "model.adapter.rnk is no argument of lora; did you mean 'rank'?"),
        ("model.adapter={name: lora, rnk: null}", "model.adapter.rnk is no argument of lora"),
        ("model.adapter={name: lora, experts: 4}", "experts is no argument of lora; it takes blocks, rank, alpha"),
        ("model.adapter={name: adapter, rank: 4}", "rank is no argument of adapter; .*"),
        ("model.adapter={name: lora, rank: 2.5}", "model.adapter.rank must be an integer, got 2.5"),
        ("model.adapter={name: lora, rank: true}", "model.adapter.rank must be an integer, got True"),
        ("model.adapter={name: lora, alpha: big}", "model.adapter.alpha must be a number or null, got 'big'"),
        ("model.adapter={name: lora, rank: 0}", "model.adapter.rank must be at least 1, got 0"),
        ("model.adapter={name: lora, alpha: 0}", "model.adapter.alpha must be above 0"),
        ("model.adapter={name: conv_lora, alpha: .nan}", "model.adapter.alpha must be above 0"),
        ("model.adapter={name: conv_lora, experts: 1}", "model.adapter.experts must be at least 2"),
        ("model.adapter={name: adapter, ratio: 0}", "model.adapter.ratio must be above 0"),
        ("model.adapter={name: lora, blocks: [-1]}", "model.adapter.blocks must be indices of blocks from 0"),
        ("model.adapter={name: lora, blocks: []}", "model.adapter.blocks must be indices of blocks from 0"),
        ("model.adapter={name: lora, blocks: [a]}", "model.adapter.blocks must be a list of integers or null"),
        ("train.warmup=1", "train.warmup must be a share of all steps"),
        ("train.precision=fp8", "train.precision must be one of fp32, bf16, fp16; got 'fp8'"),
        ("seed=-1", "seed must be in 0"),
        ("train.loss.ce=0", "train.loss: every weight is 0"),
        ("train.loss.ce=-1", "train.loss.ce must be at least 0"),
        ("train.loss.class_weights=balance", "class_weights must be null, balanced or a mapping"),
        ("train.loss.class_weights={bilding: 1}", "there is no class bilding; did you mean building?"),
        ("train.loss.class_weights={building: many}", "class_weights.building must be a number"),
        ("train.loss.class_weights={building: 0, background: 0}", "every class has weight 0"),
        ("data.classes.tree=255", "data.classes.tree claims mask value 255 as data.classes.building does"),
        ("data.classes={}", "data.classes is empty"),
        ("data.root=${nowhere}", "nowhere"),
        ("data.root=???", "data.root"),
        ("train.lr", "an override is written key=value, got 'train.lr'"),
        ("=1", "an override is written key=value"),
        ("train.lr=[1", "train.lr: cannot read '.1' as a YAML value"),
        ("data.classes={a:", 'a value with spaces wants quotes: "data.classes={a: ..."'),
    ],
)
def test_bad_settings_are_refused_in_one_line(load, override, message):
    with pytest.raises(ConfigError, match=message) as raised:
        load(CLASSES, override)
    assert "\n" not in str(raised.value)


def test_an_adapter_beside_a_free_encoder_is_refused(load):
    with pytest.raises(ConfigError, match="model.freeze_encoder is false: set it to true, or model.adapter to null"):
        load(CLASSES, "model.adapter.name=lora", "model.freeze_encoder=false")


def test_an_adapters_keys_that_are_left_out_are_filled_in(load, tmp_path):
    lora = {"name": "lora", "blocks": None, "rank": 4, "alpha": None}
    assert load(CLASSES, "model.adapter.name=lora").model.adapter == lora
    assert load(CLASSES, "model.adapter.name=lora", "model.adapter.rank=8").model.adapter == lora | {"rank": 8}
    config = load(CLASSES, "model.adapter={name: conv_lora, experts: 4, blocks: [0, 2], alpha: 6}")
    assert config.model.adapter == {"name": "conv_lora", "blocks": [0, 2], "rank": 3, "alpha": 6.0, "experts": 4}
    save_config(config, tmp_path / "run" / "config.yaml")
    assert read_run_config(tmp_path / "run") == config
    for nothing in ("null", "{}", "{name: null, rank: null}"):
        assert load(CLASSES, f"model.adapter={nothing}").model.adapter is None


@pytest.mark.parametrize("name", list(METHODS))
def test_an_adapters_keys_are_its_arguments(load, name):
    found = load(CLASSES, f"model.adapter.name={name}").model.adapter
    assert found == {"name": name} | {key: argument.default for key, argument in arguments_of(name).items()}


def test_an_adapter_of_an_older_run_is_read(load):
    """Which wrote the keys of all methods, those of others as null."""
    old = "{name: lora, blocks: null, rank: 4, alpha: null, experts: null, ratio: null}"
    assert load(f"model: {{adapter: {old}}}\n" + CLASSES).model.adapter == {
        "name": "lora",
        "blocks": None,
        "rank": 4,
        "alpha": None,
    }
    none = "{name: null, blocks: null, rank: null, alpha: null, experts: null, ratio: null}"
    assert load(f"model: {{adapter: {none}}}\n" + CLASSES).model.adapter is None


def test_checkpointing_goes_with_an_adapter_or_a_free_encoder(load):
    assert load(CLASSES, "train.gradient_checkpointing=true", "model.adapter.name=lora").train.gradient_checkpointing
    assert load(CLASSES, "train.gradient_checkpointing=true", "model.freeze_encoder=false").train.gradient_checkpointing


def test_pyramid_lr_is_lr_unless_given(load):
    assert load(CLASSES, "train.lr=0.01").train.pyramid_lr == 0.01
    assert load(CLASSES, "train.lr=0.01", "train.pyramid_lr=0.5").train.pyramid_lr == 0.5


def test_unknown_keys_and_types_in_the_file_are_refused_as_well(load):
    with pytest.raises(ConfigError, match="unknown key train.loss.focall; did you mean train.loss.focal?"):
        load("train: {loss: {focall: 1}}\n" + CLASSES)
    with pytest.raises(ConfigError, match="data.root must be text, got 2024; put it in quotes"):
        load("data: {root: 2024, classes: {a: 0}}")


@pytest.mark.parametrize(
    "text, message",
    [
        ("train:\n  lr: [1\n  epochs: 2\n", r"run.yaml, line [23]: "),
        ("train:\n  lr: 1\n  lr: 2\n", r"run.yaml, line 3: found duplicate key lr"),
        ("a: b: c\n", r"run.yaml, line 1: "),
        ("- 1\n", "must hold settings as 'key: value', got a list"),
        ("5\n", "must hold settings as 'key: value'"),
        ("", "data.classes is empty"),
        ("seed: \x07", "not a YAML text file"),
        ("seed: !!python/object/apply:os.getcwd []", "run.yaml, line 1: could not determine a constructor"),
    ],
)
def test_files_that_are_no_configuration(load, text, message):
    with pytest.raises(ConfigError, match=message) as raised:
        load(text)
    assert "\n" not in str(raised.value)


def test_a_file_that_is_not_there_names_what_is(tmp_path):
    (tmp_path / "buildings.yaml").touch()
    (tmp_path / "notes.txt").touch()
    with pytest.raises(ConfigError, match="bildings.yaml; did you mean .*buildings.yaml?"):
        load_config(tmp_path / "bildings.yaml")
    with pytest.raises(ConfigError, match="holds buildings.yaml$"):
        load_config(tmp_path / "zzz")
    with pytest.raises(ConfigError, match="there is no folder"):
        load_config(tmp_path / "nowhere" / "a.yaml")
    with pytest.raises(ConfigError, match="is a folder"):
        load_config(tmp_path)
    (tmp_path / "picture.yaml").write_bytes(b"\x89PNG\xff\xfe")
    with pytest.raises(ConfigError, match="not a YAML text file"):
        load_config(tmp_path / "picture.yaml")


def test_a_saved_configuration_loads_as_an_equal_object_from_anywhere(load, tmp_path):
    text = """
run_dir: "1e-3"
model: {weights: null, decoder: {decoder_channels: [64, 32], name: "no"}}
data:
  root: ~/data
  classes: {road: [9, 6, 9], "null": "#0a0B0c", "bäume, 1": [[1, 2, 3], "#ffffff"], "#x": [0, 0, 0], "yes": "#000909"}
  ignore: ["#000001", [0, 0, 2]]
  image_size: 64
  augment: [HorizontalFlip, {OneOf: {transforms: [{Rotate: {limit: [-10, 10], p: 1e-5}}]}}]
train: {lr: 1e-3, loss: {dice: 1, class_weights: {road: 2}}}
"""
    config = load(text)
    assert "~" not in config.data.root
    assert config.data.augment[1]["OneOf"]["transforms"][0]["Rotate"]["p"] == 1e-5
    run = tmp_path / "run"
    save_config(config, run / "config.yaml")
    assert read_run_config(run) == config
    saved = yaml.safe_load((run / "config.yaml").read_text(encoding="utf-8"))
    assert list(saved["data"]["classes"]) == ["road", "null", "bäume, 1", "#x", "yes"]
    assert saved["train"]["encoder_lr"] == pytest.approx(1e-4 * 10)  # as resolved: no pretrained weights


def test_the_batch_size_is_a_number_or_auto(load):
    assert load(CLASSES, "train.batch_size=4").train.batch_size == 4
    assert load(CLASSES, "train.batch_size=auto").train.batch_size == "auto"


def test_weights_in_a_file_are_found_from_anywhere(load, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "sam.pth").touch()
    assert load(CLASSES, "model.weights=sam.pth").model.weights == str(tmp_path / "sam.pth")
    assert load(CLASSES, "model.weights=sa-1b").model.weights == "sa-1b"


def test_a_folder_that_is_no_run(tmp_path):
    with pytest.raises(InputError, match="no such run folder"):
        read_run_config(tmp_path / "gone")
    with pytest.raises(InputError, match="is not a run folder: it has no config.yaml"):
        read_run_config(tmp_path)


def test_the_defaults_only_lack_classes(load):
    expected = RunConfig()
    expected.data.source, expected.data.classes = "folders", {"background": 0, "building": 255}
    expected.data.image_size, expected.data.resize = 1024, True
    expected.data.mean, expected.data.std = [0.485, 0.456, 0.406], [0.229, 0.224, 0.225]
    expected.train.encoder_lr, expected.train.pyramid_lr = expected.train.lr / 10, expected.train.lr
    expected.train.layer_decay = 1.0
    loss = expected.train.loss
    loss.ce, loss.dice, loss.focal, loss.lovasz = 1.0, 0.0, 0.0, 0.0
    assert load() == expected
