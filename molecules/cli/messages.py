"""The words of this command line for what the library says; see :mod:`scidiffuse.core.messages`."""

from __future__ import annotations

from ...core.messages import Words

__all__ = ["in_flags", "told"]

#: What messages say to Python users, as patterns, and what it is called here. Bad input ends with status 2, as a
#: command that cannot be parsed does.
_WORDS = Words(
    {
        r"pass resume=True": "add --resume",
        r"(\w+)\.preset\('(\w+)'\)": r"--preset \2",
        r"name one of (\[.*?\]) with column=": r"name one of \1 with --column",
        r"Standardise\(hydrogens=\.\.\.\)": "--hydrogens",
        r"pass train=, a list of SMILES": "give --train, a file of molecules",
        r"without (train|reference)=: pass it": r"without --\1: give it",
        r"""\b(errors|hydrogens|fragments|charges|stereo|isotopes|radicals|units|unknown|lower)=['"](\w+)['"]""": (
            r"--\1 \2"
        ),
        r"\(walkers?=": "(--walkers ",
        r"\b(max_steps|batch_size|save_every|max_atoms|num_nodes|max_batch)\b": lambda m: "--" + m[1].replace("_", "-"),
        r"allow_small=True": "--allow-small",
        r"\b(vocabulary|alphabet|column|steps|nodes|candidates|walkers|inventory)=(?=\W|$)": r"--\1",
    },
    code=2,
)

in_flags, told = _WORDS.in_flags, _WORDS.told
