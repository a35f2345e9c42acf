"""The words of this command line for what the library says; see :mod:`scidiffuse.core.messages`."""

from __future__ import annotations

from ...core.messages import EXPECTED, Words

__all__ = ["EXPECTED", "in_flags", "stop", "told"]

#: What messages say to Python users, as patterns, and what it is called here.
_WORDS = Words(
    {
        r" \(the paths are in the error's \.forecast\)": "",
        r"pass resume=True": "add --resume",
        r"pass (another )?(freq|start|tz)=": r"give \1--\2",
        r"(name one with|see) (column|tz)=": r"\1 --\2",
        r"""\b(on_violation|errors|regulariser|missing)=['"](\w+)['"]""": lambda m: (
            f"--{m[1].replace('_', '-')} {m[2]}"
        ),
        r"(?<!\()\bcovariates=": "--covariates-file",
        r"\bh=": "--horizon ",
        r"\bQuantileGuidance\b(?!\()": "--guidance quantile",
        r"\bMSEGuidance\b(?!\()": "--guidance mse",
        r"\bprediction_length\b": "--horizon",
        r"\bn_windows\b": "--windows",
        r"\b(context_length|num_samples|sampling_steps|max_steps|batch_size|save_every|val_windows|d_state|guidance_scale|"
        r"num_nodes|dropout|step_size|noise_scale|with_ets)\b": lambda match: "--" + match[1].replace("_", "-"),
    }
)

in_flags, stop, told = _WORDS.in_flags, _WORDS.stop, _WORDS.told
