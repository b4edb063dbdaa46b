"""Weights from disk: every tensor that a model has, from files that hold no other; else a refusal that names them.

The libraries draw at random what the files lack, and pass over what the files hold besides. Every model and every
adapter is therefore loaded here, where their load reports are read.
"""

from __future__ import annotations

import re
import warnings
from collections.abc import Iterable
from pathlib import Path
from typing import Any, Literal

import torch
from safetensors import SafetensorError

from burnish.config import ModelConfig
from burnish.data.folders import Origin, adapter_settings, home_of, model_chain, origin_of
from burnish.engine import sharding
from burnish.errors import ModelError
from burnish.tensors import wide_type

Place = Literal["device", "host", "nowhere"]  # where weights are loaded to; nowhere: shapes only
DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float64": torch.float64}
UNREADABLE = (OSError, ValueError, RuntimeError, KeyError, ImportError, SafetensorError)  # raised by loaders
GENERATION = "generation_config.json"
PROCESSOR = ("preprocessor_config.json", "video_preprocessor_config.json", "processor_config.json")  # of images, sound
QUIET = {"_raise_exceptions_for_missing_entries": False, "_raise_exceptions_for_connection_errors": False}
CODES = ("I8", "U8", "F8")  # types of tensors whose numbers stand for others
NAMED = 4  # tensors that a refusal lists
COMPUTED = re.compile(r"(^|\.)(attn|attention)\.(bias|masked_bias)$|rotary_emb\.inv_freq$")  # once saved, now made anew


def origin(model: ModelConfig) -> Origin:
    """Where a model's weights lie. Raises ModelError as `origin_of` does."""
    return origin_of(model.path, allow_pickle=model.allow_pickle)


def configuration(model: ModelConfig) -> Any:
    """The configuration of a model, or of an adapter's base. Raises ModelError where it cannot be read."""
    from transformers import AutoConfig

    base = origin(model).base
    try:
        return AutoConfig.from_pretrained(base, trust_remote_code=model.trust_remote_code)
    except UNREADABLE as error:
        raise ModelError(f"model.path: the configuration of {base} cannot be read: {reason(error)}") from error


def stored_type(model: ModelConfig) -> torch.dtype:
    """The type of a model's weights in its files, as its configuration says."""
    config = configuration(model)
    kind: torch.dtype = config.dtype or config.get_text_config().dtype or torch.float32
    return kind


def rows(model: ModelConfig) -> int | None:
    """Rows of the model's embedding, as its configuration says."""
    size = getattr(configuration(model).get_text_config(), "vocab_size", None)
    return size if isinstance(size, int) else None


def ends(model: ModelConfig) -> frozenset[int]:
    """Tokens that end an answer in transformers' `generate`: those of generation_config.json, else of config.json.

    Raises ModelError where the file cannot be read or names no ids.
    """
    from transformers import GenerationConfig
    from transformers.utils.hub import cached_file

    home, named = home_of(model.path, GENERATION), None
    file = cached_file(home, GENERATION, **QUIET)
    if file is not None:
        try:
            named = GenerationConfig.from_pretrained(home).eos_token_id
        except UNREADABLE as error:
            raise ModelError(f"model.path: {file} cannot be read: {reason(error)}") from error
    if named is None:
        file, named = "config.json", GenerationConfig.from_model_config(configuration(model)).eos_token_id
    tokens = named if isinstance(named, list) else [] if named is None else [named]
    if not all(isinstance(token, int) and token >= 0 for token in tokens):
        raise ModelError(f"model.path: {file} of {home}: eos_token_id = {named!r}: a token's id, or a list of ids")
    return frozenset(tokens)


def companions(path: str) -> dict[str, bytes]:
    """Files that go with a model wherever it is saved, by name: its processor of images and sound, and an adapter's own
    settings of generation. They lie with the model or with what it goes on. Tokenizer and weights bring the others."""
    from transformers.utils.hub import cached_file

    homes = model_chain(path)
    files: dict[str, bytes] = {}
    for name in (*PROCESSOR, GENERATION):
        for home in homes[:-1] if name == GENERATION else homes:
            if name not in files and (file := cached_file(home, name, **QUIET)):
                files[name] = Path(file).read_bytes()
    return files


def load_base(model: ModelConfig, *, quantize: bool, scalar: bool = False, place: Place = "device") -> Any:
    """The whole PreTrainedModel that `model.path` names, or that its adapters go on, in float32 (float64 on request).

    With `scalar` it is a sequence classifier of one label, whose head is drawn at random where the files are a language
    model's. Raises ModelError where transformers cannot build it, or where the files do not hold exactly its tensors.
    """

    base = origin(model).base
    fresh = scalar and not is_classifier(configuration(model))
    _refuse_unknown_quantisation(configuration(model), base)
    options: dict[str, Any] = {"trust_remote_code": model.trust_remote_code, **({"num_labels": 1} if scalar else {})}
    kind = _loader(configuration(model), scalar)
    if quantize:
        from transformers import BitsAndBytesConfig

        options["quantization_config"] = BitsAndBytesConfig(  # type: ignore[no-untyped-call]
            load_in_4bit=True, bnb_4bit_quant_type="nf4", bnb_4bit_compute_dtype=DTYPES[model.dtype]
        )
        options["dtype"] = DTYPES[model.dtype]
    else:
        options["dtype"] = wide_type(DTYPES[model.dtype])
    try:
        if place == "nowhere":
            module = _weightless(kind, base, options)
        else:
            module, report = kind.from_pretrained(
                base, **options, output_loading_info=True, ignore_mismatched_sizes=True,
                use_safetensors=None if model.allow_pickle else True,
            )  # fmt: skip
            _refuse_other_tensors(module, report, base, options if fresh else None)
            if getattr(module.config, "quantization_config", None) is None or quantize:
                _refuse_codes(base)
    except UNREADABLE as error:
        wanted = "reward model" if scalar else "causal language model"
        raise ModelError(f"model.path: {base} could not be loaded as a {wanted}: {reason(error)}") from error
    module.config.get_text_config().use_cache = False
    if model.dtype == "float64" and hasattr(module, "set_experts_implementation"):
        module.set_experts_implementation("eager")  # the grouped product has no float64
    if torch.cuda.is_available() and not quantize and place == "device":
        module = module.to(torch.device("cuda"))
    return module


def _loader(config: Any, scalar: bool) -> Any:
    """The class that makes the whole model: for text and images it is not the one for text alone."""
    import transformers
    from transformers.models.auto.modeling_auto import MODEL_FOR_IMAGE_TEXT_TO_TEXT_MAPPING

    if scalar:
        return transformers.AutoModelForSequenceClassification
    several = type(config) in MODEL_FOR_IMAGE_TEXT_TO_TEXT_MAPPING and config.get_text_config() is not config
    both = several and not config.is_encoder_decoder
    return transformers.AutoModelForImageTextToText if both else transformers.AutoModelForCausalLM


def open_adapter(base: Any, folder: Path, *, trained: str = "CAUSAL_LM") -> Any:
    """The model with the adapter in `folder`, frozen. `trained` is the task of the model: CAUSAL_LM or SEQ_CLS.

    Raises ModelError where the adapter's tensors are not those that the model gets from it.
    """
    from peft import MODEL_TYPE_TO_PEFT_MODEL_MAPPING, PeftModel

    try:
        with warnings.catch_warnings():  # peft asks transformers by names that are going out of use
            warnings.simplefilter("ignore")
            settings = _adapter_kind(folder)
            settings.inference_mode = True
            fits = settings.task_type == trained
            kind: Any = MODEL_TYPE_TO_PEFT_MODEL_MAPPING[trained] if fits else PeftModel
            module = kind(base, settings, "default")
            report = module.load_adapter(
                str(folder), "default", key_mapping=getattr(base, "_checkpoint_conversion_mapping", {})
            )
    except KeyError as error:  # of a module that was trained as a whole
        raise ModelError(f"the adapter in {folder} does not hold {error.args[0]}") from error
    except (*UNREADABLE, TypeError, AttributeError) as error:
        raise ModelError(f"the adapter in {folder} does not go on its base: {reason(error)}") from error
    _refuse(f"the adapter in {folder} does not fit its base", report.missing_keys, report.unexpected_keys)
    return module


def _adapter_kind(folder: Path) -> Any:
    """peft's configuration of an adapter. Raises ModelError for a kind that peft does not know."""
    from peft import PeftConfig
    from peft.mapping import PEFT_TYPE_TO_CONFIG_MAPPING

    kind = adapter_settings(folder).get("peft_type")
    if kind not in PEFT_TYPE_TO_CONFIG_MAPPING:
        raise ModelError(f"the adapter in {folder} is of a kind that peft does not know (peft_type = {kind!r})")
    return PeftConfig.from_pretrained(str(folder))


def is_classifier(config: Any) -> bool:
    """Whether a configuration is a sequence classifier's, as those of reward models are."""
    return any("SequenceClassification" in str(name) for name in config.architectures or [])


def has_scalar_head(folder: Path) -> bool:
    """Whether an adapter is a reward model's, and holds its head."""
    return "SEQ_CLS" in str(adapter_settings(folder).get("task_type"))


def reason(error: BaseException) -> str:
    """What a library's exception says, in a line."""
    lines = str(error.args[0] if isinstance(error, KeyError) and error.args else error).strip().splitlines()
    line = " ".join(map(str.strip, lines[:3])) if lines and lines[0].endswith(":") else (lines or [repr(error)])[0]
    if "trust_remote_code" in str(error):
        line += ". Set model.trust_remote_code=true to run it, if you trust where it comes from"
    return line


def _weightless(kind: Any, path: str, options: dict[str, Any]) -> Any:
    """The model that `from_pretrained` makes, without reading a weight."""
    from transformers import AutoConfig

    given = {name: value for name, value in options.items() if name != "dtype"}
    config = AutoConfig.from_pretrained(path, **given)
    with sharding.weightless():
        base = kind.from_config(config, dtype=options["dtype"], trust_remote_code=given["trust_remote_code"])
    base._weight_conversions = []  # the files have the module's own names, or another process knows how they differ
    return base.eval()


def _refuse_other_tensors(module: Any, report: dict[str, Any], base: str, fresh: dict[str, Any] | None) -> None:
    """Raises ModelError where the files lack a tensor of the model or hold another. `fresh`: how a sequence classifier
    was loaded from a language model's files, which lack its head and hold the one over the vocabulary."""
    missing, unexpected = set(report["missing_keys"]), set(report["unexpected_keys"])
    buffers = {name for name, _ in module.named_buffers()} - module.state_dict().keys()
    unexpected -= buffers | set(filter(COMPUTED.search, unexpected))  # the configuration gives them
    if fresh is not None:
        head = {name for name in module.state_dict() if name.startswith("score.")}
        if head and not head & missing:
            raise ModelError(
                f"model.path: the files of {base} hold a scalar head ({min(head)}), but its config.json names a "
                "language model: put the sequence classifier's name into `architectures`"
            )
        missing -= head
        unexpected -= _vocabulary_head(base, fresh) if unexpected else set()
    _refuse(f"model.path: {base} is no whole {type(module).__name__}", missing, unexpected, report["mismatched_keys"])


def _refuse_unknown_quantisation(config: Any, base: str) -> None:
    """Raises ModelError where the weights are packed in a way that transformers would pass over."""
    from transformers.quantizers.auto import AUTO_QUANTIZATION_CONFIG_MAPPING

    packed = getattr(config, "quantization_config", None)
    if packed is None:
        return
    named = packed if isinstance(packed, dict) else packed.to_dict()
    method = named.get("quant_method") or ("bitsandbytes" if "load_in_4bit" in named or "load_in_8bit" in named else "")
    if method not in {*AUTO_QUANTIZATION_CONFIG_MAPPING, "bitsandbytes"}:
        raise ModelError(
            f"model.path: {base} is quantised by a method that transformers does not know (quant_method = {method!r})"
        )


def _refuse_codes(base: str) -> None:
    """Raises ModelError where files hold weights in 8 bits, which stand for others, and no configuration says how."""
    from safetensors import safe_open
    from transformers.utils.hub import cached_file

    config = cached_file(base, "config.json", **QUIET)
    for file in sorted(Path(config).parent.glob("*.safetensors")) if config else ():
        with safe_open(file, framework="pt") as held:
            types = {name: held.get_slice(name).get_dtype() for name in held.keys()}  # noqa: SIM118  # no mapping
        codes = sorted(name for name, kind in types.items() if kind.startswith(CODES) and not COMPUTED.search(name))
        if codes:
            raise ModelError(
                f"model.path: {file} holds {_names(codes)} in 8 bits ({types[codes[0]]}), and config.json has no "
                "quantization_config that says what they stand for"
            )


def _vocabulary_head(base: str, options: dict[str, Any]) -> set[str]:
    """Names of the tensors in the head of the language model that a folder holds."""
    import transformers

    given = {name: value for name, value in options.items() if name not in ("num_labels", "quantization_config")}
    model = _weightless(transformers.AutoModelForCausalLM, base, given)
    head = model.get_output_embeddings()
    name = next((name for name, part in model.named_modules() if part is head), None)
    return {f"{name}.{inner}" for inner in ("weight", "bias")} if name else set()


def _refuse(what: str, missing: Iterable[str], unexpected: Iterable[str], other_shapes: Iterable[Any] = ()) -> None:
    """Raises ModelError with the tensors' names, where there are any."""
    faults = []
    if missing := sorted(missing):
        faults.append(f"the files lack {_names(missing)}, which would be drawn at random")
    if shapes := sorted(f"{name} {list(there)} for {list(wanted)}" for name, there, wanted in other_shapes):
        faults.append(f"the files hold other shapes: {_names(shapes)}")
    if unexpected := sorted(unexpected):
        faults.append(f"the files hold {_names(unexpected)}, which nothing takes")
    if faults:
        raise ModelError(f"{what}: {'; '.join(faults)}")


def _names(names: list[str]) -> str:
    rest = f" and {len(names) - NAMED} more" if len(names) > NAMED else ""
    return ", ".join(names[:NAMED]) + rest
