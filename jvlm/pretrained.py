# Copyright 2026 The jvlm Authors.
# SPDX-License-Identifier: Apache-2.0
"""`jvlm.load`: a model with its weights, its processor and its task methods."""

import contextlib
import dataclasses
import functools
import json
import shutil
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import flax.linen as nn
import jax
import ml_collections
import numpy as np
import orbax.checkpoint as ocp

from jvlm import __version__, adapters, convert, paths, sharding
from jvlm import quantise as quantise_lib
from jvlm.checkpoint import Checkpoints
from jvlm.config import construct, from_dataclass
from jvlm.data import images as images_lib
from jvlm.data.pipeline import collate
from jvlm.data.transforms import NO_PREPROCESS, compose
from jvlm.errors import UserError
from jvlm.generation.tasks import NO_TOKENIZER, TextTasks
from jvlm.image_tasks import ImageTasks
from jvlm.layers import resize_positions
from jvlm.models import MODELS, build_model
from jvlm.precision import Compute, cast_weights, is_matmul_weight
from jvlm.state import resolve_trainable, split
from jvlm.tokenizers import Tokenizer, load_tokenizer

SAVED, SAVED_FORMAT = "jvlm.json", 1
CLEANING = ("pre_caption", "pre_question", "straight_quotes")
POSITIONS = ("vision/pos", "vision/pool/pos")


class Processor:
    """Images and texts to a batch, as the model was trained.

    Attributes:
      steps: the config's `preprocess`, image transforms; None where a checkpoint does not say.
      tokenizer: or None.
      cleaning: text transforms without their `key`, such as ('pre_caption', {'variant': 'albef'}).
    """

    def __init__(
        self, steps: Sequence | None, tokenizer: Tokenizer | None, cleaning: Sequence = ()
    ):
        self.steps, self.tokenizer, self.cleaning = steps, tokenizer, cleaning
        self._transform = None if steps is None else compose(steps, where="preprocess")
        keyed = [(name, {**options, "key": "text"}) for name, options in cleaning]
        self._clean = compose(keyed, where="cleaning")

    @classmethod
    def of_run(cls, config: Any, tokenizer: Tokenizer | None) -> "Processor":
        """That of a run, whose transforms say how what they tokenize is cleaned."""
        steps = config.data.get("transforms") or ()
        texts = (options for name, options in steps if name == "tokenize")
        read = next((o["key"] for o in texts if o.get("out", "text") == "text"), None)
        cleaning = [
            (name, {key: value for key, value in options.items() if key not in ("key", "out")})
            for name, options in steps
            if name in CLEANING and (options.get("out") or options["key"]) == read
        ]
        return cls(config.preprocess, tokenizer, cleaning)

    def __call__(self, images: Sequence | None = None, text: Sequence[str] | None = None) -> dict:
        """Makes a numpy batch.

        Args:
          images: paths, Pillow images or uint8[H, W, 3] arrays.
          text: strings.

        Returns:
          `image` uint8[B, size, size, 3], `text` int32[B, T] and `text_mask` bool[B, T], of what
          was given.
        """
        batch = {}
        if images is not None:
            if self._transform is None:
                raise UserError(NO_PREPROCESS)
            if isinstance(images, str):
                raise UserError("processor: images: give a list of images")
            rng = np.random.default_rng(0)
            rows = [self._transform({"image": images_lib.to_array(i)}, rng) for i in images]
            batch.update(collate(rows))
        if text is not None:
            if self.tokenizer is None:
                raise UserError(NO_TOKENIZER)
            if isinstance(text, str):
                raise UserError("processor: text: give a list of str")
            batch["text"], batch["text_mask"] = self.tokenizer(self.clean(text))
        return batch

    def clean(self, texts: Sequence[str]) -> list[str]:
        """Texts as the tokenizer gets them; `__call__` does this."""
        text = lambda x: self._clean({"text": x}, None)["text"] if isinstance(x, str) else x
        return [text(x) for x in texts]


@dataclasses.dataclass
class Pretrained(ImageTasks, TextTasks):
    """A model ready for use.

    Attributes:
      model: Linen module; `model.apply({'params': params}, batch)`.
      params: nested dict.
      processor: images and texts -> batch.
      mesh: where it lives.
      name: key of `models.MODELS`.
      run: the config of the run that it comes from, or None.
      resize: options of `layers.resize_positions` with which its code takes another image size.
      generation: what the checkpoint's generation_config.json says of a language model.
      step: of a run: the checkpoint's.
      momentum: () -> (the moving average that taught it or is kept in its file, else None;
        queues of features), read when it is asked for.
    """

    model: nn.Module
    params: dict
    processor: Processor
    mesh: jax.sharding.Mesh
    name: str
    run: ml_collections.ConfigDict | None = None
    resize: Mapping[str, bool] = dataclasses.field(default_factory=lambda: {"antialias": False})
    generation: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    step: int | None = None
    momentum: Callable[[], tuple[dict | None, dict]] = lambda: (None, {})

    @property
    def config(self) -> Any:
        """The model's config, a frozen dataclass."""
        return self.model.cfg

    def save(self, path: str | Path) -> None:
        """Writes the model as jvlm's own, which `load` reads: weights as they are, onto any mesh.

        Not its `momentum`, which a run and a file of ALBEF's keep.

        Raises:
          UserError: the folder exists and is not empty, or cannot be written.
        """
        tokenizer, params = self.processor.tokenizer, self._stacked_params()
        with _new_folder(path) as part, ocp.StandardCheckpointer() as checkpointer:
            checkpointer.save(part.absolute() / "params", params)
            if tokenizer is not None:
                tokenizer.save(part / "tokenizer")
            content = {
                "format": SAVED_FORMAT,
                "model": {"name": self.name, **from_dataclass(self.config)},
                "compute": dataclasses.asdict(self.model.compute),
                "preprocess": self.processor.steps,
                "cleaning": self.processor.cleaning,
                "resize": dict(self.resize),
                "generation": dict(self.generation),
                "forms": adapters.forms(params),
                "jvlm": __version__,
            }
            (part / SAVED).write_text(json.dumps(content, indent=1))

    def export(self, path: str | Path, format: str = "hf", dtype: str = "float32") -> None:
        """Writes the model in a published format.

        Args:
          path: a folder, new or empty.
          format: 'hf', which transformers loads as the model that it is; 'open_clip'; 'albef' and
            'blip', the .pth of their own code, with the run's average and queues; or 'peft': the
            adapters alone, which PEFT loads onto what 'hf' writes.
          dtype: of the tensors: float32, float16 or bfloat16.

        Raises:
          UserError: the format has no such model, by what differs; or the folder.
        """
        tokenizer = self.processor.tokenizer
        with _new_folder(path) as part:
            convert.export(
                part,
                format,
                self.name,
                self.config,
                self._stacked_params(),
                dtype=dtype,
                steps=self.processor.steps,
                cleaning=self.processor.cleaning,
                max_len=None if tokenizer is None else tokenizer.max_len,
                generation=self.generation,
                momentum=self.momentum,
            )
            if tokenizer is not None and format != "peft":
                tokenizer.export(part)

    def merge_adapters(self) -> "Pretrained":
        """The model with its LoRA adapters added to the weights: as fast as without them.

        Raises:
          UserError: it has none, or an adapted kernel is quantised.
        """
        params = self._stacked_params()
        if not adapters.layers(paths.flatten(params)):
            raise UserError("merge_adapters: the model has no adapters")
        with jax.set_mesh(self.mesh):
            return dataclasses.replace(self, params=adapters.merge(params))

    def describe(self) -> str:
        """One line: what it is and how large."""
        towers = [getattr(self.config, side, None) for side in ("vision", "text")]
        kinds = " and ".join(tower.kind for tower in towers if tower is not None)
        # Not of `params`: there are two values to a byte of int4, and scales besides.
        count = f"{paths.count(abstract_params(self.model, self.mesh)):,} parameters"
        return ", ".join(part for part in (self.name, kinds, count) if part)


def load(
    path: str | Path,
    *,
    step: int | str = "best",
    mesh: jax.sharding.Mesh | None = None,
    dtype: str | None = None,
    image_size: int | tuple[int, int] | None = None,
    family: str | None = None,
    variant: str | None = None,
    config: Mapping | None = None,
    tokenizer: Tokenizer | None = None,
    quantise: quantise_lib.Rules | None = None,
    adapter: str | Path | None = None,
) -> Pretrained:
    """Loads a model for use.

    Args:
      path: a run directory, what `Pretrained.save` wrote, or a published checkpoint: a folder of
        transformers, open_clip or timm, a file of OpenAI's CLIP, cn_clip, ALBEF, BLIP, LAVIS's of
        both, DeiT or Google's ViT.
      step: of a run: a checkpoint's step, 'best' (by the run's metric) or 'latest'.
      mesh: default one device.
      dtype: of matmul weights and compute; default as trained, or float32.
      image_size: another side in pixels, or (height, width), than trained with; positions are
        interpolated as the checkpoint's own code does it.
      family, variant, config: of a pickled file that does not tell what it is, see
        `convert.open_published`.
      tokenizer: in place of the checkpoint's.
      quantise: 'int8' or 'int4' keeps the kernels of all layers so; or rules, see
        `quantise.resolve`. A published checkpoint is never held whole in its own precision.
      adapter: a folder of PEFT's with a LoRA adapter for the model.

    Raises:
      UserError: not a checkpoint, an incomplete or damaged one, weights that contradict their
        config; one line that names the file and all that does not fit.
    """
    path = Path(path)
    mesh = mesh or sharding.make_mesh(devices=jax.devices()[:1])
    with jax.set_mesh(mesh):
        if (path / SAVED).is_file():
            m = _load_saved(path, mesh, dtype)
        elif convert.is_published(path):
            given = (family, variant, config)
            m = _load_published(path, mesh, dtype, tokenizer, quantise, *given)
        elif (path / "config.json").is_file():
            m = _load_run(path, step, mesh, dtype)
        else:
            reason = "no checkpoint in it" if path.is_dir() else "no such file or folder"
            raise UserError(f"{path}: {reason} (jvlm.load tells what it reads)")
        if quantise and not convert.is_published(path):
            _quantise(m, quantise)
        if adapter is not None:
            if m.name not in convert.HF_MODELS:
                raise UserError(f"adapter: PEFT's are for transformers' models, not for {m.name}")
            shapes = abstract_params(m.model, mesh)
            rules = convert.HF_MODELS[m.name].rules(m.config)
            m.params = convert.load_adapter(adapter, rules, m.params, shapes, mesh)
        if tokenizer is not None:
            m.processor.tokenizer = tokenizer
        return m if image_size is None else _resize(m, image_size)


def _load_run(
    path: Path, step: int | str, mesh: jax.sharding.Mesh, dtype: str | None
) -> Pretrained:
    config = ml_collections.ConfigDict(convert.read_json(path / "config.json"))
    if "model" not in config or "trainable" not in config:
        raise UserError(f"{path}: its config.json is neither a run's nor a known checkpoint's")
    model = build_model(config.model.to_dict(), _compute(config.compute, dtype))
    tokenizer = None
    if config.tokenizer:
        if not (path / "tokenizer").is_dir():
            raise UserError(f"{path}: the run's tokenizer/ is missing: copy runs whole")
        tokenizer = load_tokenizer(path / "tokenizer")
    forms = (config.get("quantise"), config.get("lora"))
    extend = lambda params: adapters.extend(params, jax.random.key(0), *forms)
    shapes = abstract_params(model, mesh, extend)
    trainable = resolve_trainable(config.trainable, paths.flatten(shapes))
    keeping = {k: config.checkpoint[k] for k in ("best", "best_mode") if k in config.checkpoint}
    checkpoints = Checkpoints(path, read_only=True, **keeping)
    step = choose_step(checkpoints, step, path)
    params, frozen = split(shapes, trainable)
    frozen = _with_dtype(frozen, config.compute.dtype)
    params = checkpoints.restore_params(step, params, frozen, ema=bool(config.ema.decay))
    checkpoints.close()

    def momentum() -> tuple[dict | None, dict]:
        checkpoints = Checkpoints(path, read_only=True)
        place = functools.partial(sharding.placed, mesh=mesh)
        read = checkpoints.restore_momentum(step, place, sharding.replicated(mesh))
        checkpoints.close()
        return read

    if dtype is not None:
        params = cast_weights(params, dtype)
    processor = Processor.of_run(config, tokenizer)
    about = (config.model.name, config)
    return Pretrained(model, params, processor, mesh, *about, step=step, momentum=momentum)


def _load_saved(path: Path, mesh: jax.sharding.Mesh, dtype: str | None) -> Pretrained:
    saved = convert.read_json(path / SAVED)
    if saved.get("format") != SAVED_FORMAT:
        raise UserError(f"{path / SAVED}: format {saved.get('format')}, this jvlm reads 1")
    try:
        section, compute, steps = saved["model"], saved["compute"], saved["preprocess"]
        name, resize = section["name"], saved["resize"]
        forms = saved.get("forms") or adapters.forms({})
    except (KeyError, TypeError) as error:
        raise UserError(f"{path / SAVED}: damaged: no {error}") from None
    model = build_model(section, _compute(compute, dtype))
    tokenizer = None
    if (path / "tokenizer").is_dir():
        tokenizer = load_tokenizer(path / "tokenizer")
    abstract = abstract_params(model, mesh, lambda params: adapters.like(params, forms))
    abstract = _with_dtype(abstract, model.compute.dtype)
    try:
        with ocp.StandardCheckpointer() as checkpointer:
            params = checkpointer.restore(path.absolute() / "params", abstract)
    except (OSError, ValueError, KeyError) as error:
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise UserError(f"{path}/params: incomplete or damaged: {reason}") from None
    generation = saved.get("generation", {})
    processor = Processor(steps, tokenizer, saved.get("cleaning", ()))
    return Pretrained(model, params, processor, mesh, name, resize=resize, generation=generation)


def _load_published(
    path: Path,
    mesh: jax.sharding.Mesh,
    dtype: str | None,
    tokenizer: Tokenizer | None,
    quantise: quantise_lib.Rules | None,
    family: str | None,
    variant: str | None,
    config: Mapping | None,
) -> Pretrained:
    published = convert.open_published(path, family, variant, config)
    model = MODELS[published.model][0](published.config, _compute({}, dtype))
    abstract = _with_dtype(abstract_params(model, mesh), model.compute.dtype)
    params, tokenizer = convert.load(published, abstract, tokenizer, quantise)
    processor = Processor(published.preprocess, tokenizer, published.cleaning)
    return Pretrained(
        *(model, params, processor, mesh, published.model),
        resize=published.resize,
        generation=published.generation,
        momentum=lambda: convert.load_momentum(published, abstract),
    )


def _quantise(m: Pretrained, rules: quantise_lib.Rules) -> None:
    """Quantises the kernels of a model in place, one after another."""
    flat = paths.flatten(m.params)
    if adapters.forms(m.params)["quantise"]:
        raise UserError("quantise: the model is quantised already: load it without quantise=")
    fn = jax.jit(
        lambda path, kind, leaf: quantise_lib.quantise_tree({path: leaf}, {path: kind}),
        static_argnums=(0, 1),
    )
    for path, kind in quantise_lib.resolve(rules, flat).items():
        leaf = flat.pop(path)
        flat.update(paths.flatten(fn(path, kind, leaf)))
    m.params = paths.unflatten(flat)


def _resize(m: Pretrained, image_size: int | Sequence[int]) -> Pretrained:
    """The model for another image size."""
    if not hasattr(m.config, "vision"):
        raise UserError(f"image_size: {m.name} takes no images")
    size = tuple(int(side) for side in np.broadcast_to(image_size, 2))
    old = tuple(int(side) for side in np.broadcast_to(m.config.vision.image_size, 2))
    if size == old:
        return m
    side = size[0] if size[0] == size[1] else size
    vision = dataclasses.replace(m.config.vision, image_size=side)
    cfg = dataclasses.replace(m.config, vision=vision)

    def resized(pos: jax.Array) -> jax.Array:
        grids = m.config.vision.grid, vision.grid
        fn = functools.partial(resize_positions, old=grids[0], new=grids[1], **m.resize)
        return jax.jit(fn, out_shardings=sharding.replicated(m.mesh))(pos)

    def fit(params: Mapping) -> dict:
        return paths.map_with_path(
            lambda path, leaf: resized(leaf) if path in POSITIONS else leaf, params
        )

    def momentum() -> tuple[dict | None, dict]:
        average, queues = m.momentum()
        return average and fit(average), queues

    steps = m.processor.steps
    if steps is not None:
        steps = [
            step for name, options in steps for step in _resized_step(name, options, old, size)
        ]
    processor = Processor(steps, m.processor.tokenizer, m.processor.cleaning)
    changed = dict(model=m.model.clone(cfg=cfg), params=fit(m.params), momentum=momentum)
    return dataclasses.replace(m, processor=processor, **changed)


def _resized_step(name: str, options: Mapping, old: Sequence[int], new: Sequence[int]) -> list:
    """An image transform for another size; sides of squares become sides of rectangles."""
    square = options.get("size")
    height, width = options.get("height", square), options.get("width", square)
    if height is None:
        return [(name, options)]
    # A resize may leave a border for the crop: its share stays.
    sides = dict(height=round(height * new[0] / old[0]), width=round(width * new[1] / old[1]))
    rest = {key: value for key, value in options.items() if key not in ("size", *sides)}
    if square is None or new[0] == new[1]:
        return [(name, {**rest, **({"size": sides["height"]} if square else sides)})]
    to = {"resize_square": ["resize"], "resize_shortest": ["resize_cover"]}
    names = to.get(name, ["resize_cover", "center_crop"])
    return [(name, {**sides, **(rest if name != "center_crop" else {})}) for name in names]


def _compute(section: Mapping, dtype: str | None) -> Compute:
    compute = construct(Compute, section, where="compute")
    return compute if dtype is None else dataclasses.replace(compute, dtype=dtype)


def _with_dtype(abstract: Mapping, dtype: str) -> dict:
    """Matmul weights as they are stored to be computed in `dtype`."""
    return paths.map_with_path(
        lambda path, leaf: leaf.update(dtype=dtype) if is_matmul_weight(path) else leaf, abstract
    )


@contextlib.contextmanager
def _new_folder(path: str | Path) -> Iterator[Path]:
    """A folder beside `path` that becomes it when all has been written, and is gone if not."""
    if jax.process_count() > 1:
        raise UserError("save and export run in one process: load the checkpoint there")
    path = Path(path)
    try:
        if path.exists() and (not path.is_dir() or any(path.iterdir())):
            raise UserError(f"{path} exists: take another path, or remove it")
        path.absolute().parent.mkdir(parents=True, exist_ok=True)
        part = Path(tempfile.mkdtemp(prefix=f".{path.name}.", dir=path.absolute().parent))
        try:
            yield part
            part.chmod(0o755)  # mkdtemp's are its owner's only.
            if path.exists():
                path.rmdir()
            part.rename(path)
        finally:
            shutil.rmtree(part, ignore_errors=True)
    except OSError as error:
        raise UserError(f"{path}: cannot be written: {error.strerror or error}") from None


def choose_step(checkpoints: Checkpoints, step: int | str, path: Path) -> int:
    """Resolves 'best', 'latest' or a number to a checkpoint that exists."""
    steps = checkpoints.steps()
    if not steps:
        raise UserError(f"{path}: no complete checkpoint")
    if step in ("best", "latest"):
        return checkpoints.best() if step == "best" else checkpoints.latest()
    if step not in steps:
        raise UserError(f"{path}: no checkpoint of step {step}, only of {steps}")
    return step


def abstract_params(
    model: nn.Module, mesh: jax.sharding.Mesh, extend: Callable[[dict], dict] = dict
) -> dict:
    """Shapes and shardings of the parameters, without making any.

    Args:
      model: the module.
      mesh: where they are to lie.
      extend: what is done to fresh ones, such as quantising them.
    """
    batch = model.dummy_batch(sharding.batch_shards(mesh))
    init = lambda key: extend(model.init(key, batch)["params"])
    shapes = jax.eval_shape(init, jax.random.key(0))
    return sharding.placed(shapes, mesh)
