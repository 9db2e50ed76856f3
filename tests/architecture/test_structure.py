"""The architecture of `common`: its parts import lower parts only, without cycles, and never a family."""

import ast
import collections
import functools
import graphlib
import re
import textwrap
from collections.abc import Iterator, Mapping

import pytest

from common import models
from tests.runs import ROOT

# From the lowest level to the highest. A part, a folder or file of `common`, imports from lower levels and its own.
LEVELS = (
    ("errors", "files", "command_line"),
    ("devices",),
    ("launch",),
    ("nn", "processes", "data"),
    ("models",),
    ("anatomy", "optim"),
    ("config", "config_checks"),
    ("training",),
    ("run",),
    ("pretrained",),
    ("protocols", "report", "claims", "tuning", "exporting", "prediction", "comparison", "templates"),
    ("train",),
    (
        "main",
        "predict",
        "export",
        "prepare",
        "statistics",
        "weights",
        "inspect",
        "reproduce",
        "tables",
        "tune",
        "compare",
        "new",
    ),
)
NO_FIRST_WORDS = ("What", "How", "Where", "Which", "Whether", "When", "That")

Sources = Mapping[str, str]  # a module's dotted name -> its source


def sources(*packages: str) -> dict[str, str]:
    """Every module of the packages and its source; a package has its folder's name."""
    found = {}
    for package in packages:
        for path in sorted((ROOT / package).rglob("*.py")):
            parts = path.relative_to(ROOT).with_suffix("").parts
            found[".".join(parts[:-1] if parts[-1] == "__init__" else parts)] = path.read_text(encoding="utf-8")
    return found


@functools.cache  # several tests look at the same modules, and parsing is slow
def imports(source: str) -> list[tuple[str, str | None]]:
    """Every import, at the top or inside a function, as (module, name); None for `import module`."""
    found: list[tuple[str, str | None]] = []
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            found += [(alias.name, None) for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, "relative imports are not used"
            found += [(node.module or "", alias.name) for alias in node.names]
    return found


def import_graph(modules: Sources) -> dict[str, set[str]]:
    """The modules, among the given ones, that each module imports."""
    found = {}
    for name, source in modules.items():
        targets = {f"{module}.{item}" if f"{module}.{item}" in modules else module for module, item in imports(source)}
        found[name] = targets & modules.keys()
    return found


def cycle(graph: Mapping[str, set[str]]) -> list[str]:
    """The nodes of one cycle in the order of imports, the first one again at the end; empty without a cycle."""
    try:
        graphlib.TopologicalSorter(graph).prepare()
    except graphlib.CycleError as error:
        return error.args[1][::-1]
    return []


def part(module: str) -> str:
    """The folder or file of the top package that holds a module; '' for the package itself."""
    return module.split(".")[1] if "." in module else ""


def parts(graph: Mapping[str, set[str]]) -> dict[str, set[str]]:
    """The parts that each part imports."""
    found: dict[str, set[str]] = {}
    for module, targets in graph.items():
        found.setdefault(part(module), set()).update(part(target) for target in targets)
    return {name: targets - {name} for name, targets in found.items()}


def upward(graph: Mapping[str, set[str]], levels: tuple[tuple[str, ...], ...]) -> list[str]:
    """The imports of a module on a higher level, and the parts that no level has."""
    height = {name: number for number, names in enumerate(levels) for name in names}
    height[""] = 0
    unknown = {part(module) for module in graph} - height.keys()
    return sorted(
        [f"{name} is on no level" for name in unknown]
        + [
            f"{module} -> {target}"
            for module, targets in graph.items()
            for target in targets
            if not {part(module), part(target)} & unknown and height[part(target)] > height[part(module)]
        ]
    )


def families_named(modules: Sources, families: list[str]) -> list[str]:
    """The places that import a family, use its name in an identifier, or give it or a module of it as a string."""
    return sorted(
        f"{name}:{line} {word}"
        for name, source in modules.items()
        for line, word in _words(ast.parse(source))
        if set(re.split(r"[\d_.]+", word.lower())) & set(families)
    )


def _words(tree: ast.AST) -> Iterator[tuple[int, str]]:
    """Line and text of every identifier, and of every string that a module could be called."""
    for node in ast.walk(tree):
        match node:
            case ast.Name(id=word) | ast.Attribute(attr=word) | ast.arg(arg=word) | ast.alias(name=word):
                yield node.lineno, word
            case ast.FunctionDef(name=word) | ast.AsyncFunctionDef(name=word) | ast.ClassDef(name=word):
                yield node.lineno, word
            case ast.ImportFrom(module=str(word)) | ast.keyword(arg=str(word)):
                yield node.lineno, word
            case ast.Constant(value=str(word)) if re.fullmatch(r"[a-z]+(\.\w+)*", word):
                yield node.lineno, word


def private_names(modules: Sources, packages: list[str]) -> list[str]:
    """The uses of a private name of the packages: imported, as an attribute, or as a string beside its owner."""
    found = []
    for name, source in modules.items():
        tree = ast.parse(source)
        owners = set()
        for node in ast.walk(tree):
            if isinstance(node, ast.ImportFrom) and (node.module or "").partition(".")[0] in packages:
                owners |= {alias.asname or alias.name for alias in node.names}
                found += [f"{name}:{node.lineno} {alias.name}" for alias in node.names if _private(alias.name)]
            elif isinstance(node, ast.Import):
                tops = {alias.asname or alias.name.partition(".")[0]: alias.name for alias in node.names}
                owners |= {used for used, module in tops.items() if module.partition(".")[0] in packages}
        for node in ast.walk(tree):
            match node:
                case ast.Attribute(value=value, attr=word) if _private(word) and _owner(value) in owners:
                    found.append(f"{name}:{node.lineno} {ast.unparse(node)}")
                case ast.Call(args=[value, ast.Constant(value=str(word)), *_]):
                    if _private(word) and _owner(value) in owners:
                        found.append(f"{name}:{node.lineno} {ast.unparse(value)}.{word}")
    return sorted(found)


def _private(name: str) -> bool:
    return name.startswith("_") and not name.startswith("__")


def _owner(value: ast.expr) -> str | None:
    """The first name of `a.b.c`."""
    while isinstance(value, ast.Attribute):
        value = value.value
    return value.id if isinstance(value, ast.Name) else None


def docstrings(modules: Sources) -> Iterator[tuple[str, str]]:
    """Each docstring after its module and line."""
    for name, source in modules.items():
        yield from ((f"{name}:{line}", text) for line, text in _docstrings(source))


@functools.cache
def _docstrings(source: str) -> list[tuple[int, str]]:
    """Line and text of each docstring of a module."""
    kinds = (ast.Module, ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)
    return [
        (node.body[0].lineno, text)
        for node in ast.walk(ast.parse(source))
        if isinstance(node, kinds) and (text := ast.get_docstring(node))
    ]


def first_words(modules: Sources) -> list[str]:
    """The docstrings that begin with a word of `NO_FIRST_WORDS`."""
    return sorted(
        f"{place} {text.splitlines()[0]}"
        for place, text in docstrings(modules)
        if re.split(r"\W", text)[0] in NO_FIRST_WORDS
    )


def errors_without_a_verb(modules: Sources) -> list[str]:
    """The sentences of docstrings that begin with an error's name and a condition, without 'Raises'."""
    fragment = re.compile(r"(?:^|[.;] )(`?\w+Error`? (?:if|for|where|when|unless|above|naming) [^.]*)")
    return sorted(
        f"{place} {found}" for place, text in docstrings(modules) for found in fragment.findall(" ".join(text.split()))
    )


def test_modules_of_common_import_each_other_without_a_cycle():
    graph = import_graph(sources("common"))
    assert len(graph) > 50
    assert not (found := cycle(graph)), " -> ".join(found)


def test_parts_import_each_other_without_a_cycle():
    assert not (found := cycle(parts(import_graph(sources("common"))))), " -> ".join(found)


def test_parts_import_from_lower_levels_and_their_own_only():
    assert not (found := upward(import_graph(sources("common")), LEVELS)), "\n".join(found)


def test_every_part_on_a_level_exists():
    present = {part(module) for module in sources("common")}
    assert [name for names in LEVELS for name in names if name not in present] == []


def test_common_names_no_family():
    assert not (found := families_named(sources("common"), models.families())), "\n".join(found)


def test_only_classic_imports_classic_and_without_a_cycle():
    packages = ("common", "classic", *models.families())
    graph = import_graph(sources(*packages))
    assert not [
        name
        for name, targets in graph.items()
        if not name.startswith("classic") and any(target.startswith("classic") for target in targets)
    ]
    assert not (found := cycle(import_graph(sources("classic")))), " -> ".join(found)


def test_tests_use_no_private_name():
    assert not (found := private_names(sources("tests"), ["common", "classic", "lecture", *models.families()])), (
        "\n".join(found)
    )


def test_no_two_files_of_tests_have_one_name():
    # Outside packages pytest imports a file by its name alone.
    files = [path for path in ROOT.glob("tests/**/test_*.py") if not (path.parent / "__init__.py").exists()]
    names = collections.Counter(path.name for path in files)
    assert not [name for name, count in names.items() if count > 1]


def test_docstrings_do_not_begin_with_a_question_word():
    packages = ("common", "classic", "lecture", "configs", "benchmarks", "tests", *models.families())
    assert not (found := first_words(sources(*packages))), "\n".join(found)


def test_docstrings_say_what_is_raised_in_a_sentence():
    packages = ("common", "classic", "lecture", "configs", "benchmarks", "tests", *models.families())
    assert not (found := errors_without_a_verb(sources(*packages))), "\n".join(found)


def test_only_one_module_counts_processor_cores():
    # A process may be kept on some of a machine's cores; `common.devices.host` counts those.
    packages = ("common", "classic", "lecture", "benchmarks", *models.families())
    counting = [name for name, text in sources(*packages).items() if "cpu_count(" in text]
    assert counting == ["common.devices.host"]


EXAMPLE = {
    "whole": "",
    "whole.low": "import numpy",
    "whole.middle.first": "from whole import low\nfrom whole.middle.second import thing",
    "whole.middle.second": "def thing():\n    import whole.middle.first",
    "whole.high": "from whole.low import thing",
}
HEIGHTS = (("low",), ("middle",), ("high",))


def test_imports_inside_functions_count():
    assert import_graph(EXAMPLE) == {
        "whole": set(),
        "whole.low": set(),
        "whole.middle.first": {"whole.low", "whole.middle.second"},
        "whole.middle.second": {"whole.middle.first"},
        "whole.high": {"whole.low"},
    }


def test_a_cycle_is_found():
    assert sorted(set(cycle(import_graph(EXAMPLE)))) == ["whole.middle.first", "whole.middle.second"]
    assert cycle(import_graph({**EXAMPLE, "whole.middle.second": ""})) == []
    assert cycle(import_graph({"whole.low": "import whole.low"})) == ["whole.low", "whole.low"]


def test_parts_may_have_a_cycle_where_modules_have_none():
    whole = {"whole.middle.a": "import whole.high.a", "whole.high.b": "import whole.middle.b", "whole.high.a": ""}
    whole["whole.middle.b"] = ""
    assert cycle(import_graph(whole)) == []
    assert sorted(set(cycle(parts(import_graph(whole))))) == ["high", "middle"]


def test_an_import_from_a_higher_level_is_found():
    assert upward(import_graph(EXAMPLE), HEIGHTS) == []
    up = {**EXAMPLE, "whole.low": "def late():\n    from whole import high"}
    assert upward(import_graph(up), HEIGHTS) == ["whole.low -> whole.high"]
    assert upward(import_graph(EXAMPLE), (("middle", "low", "high"),)) == []
    assert upward(import_graph(EXAMPLE), HEIGHTS[:2]) == ["high is on no level"]


@pytest.mark.parametrize(
    ("source", "word"),
    [
        ("import resnet.model", "resnet.model"),
        ("from resnet import layers", "resnet"),
        ("def of(): return importlib.import_module('resnet.model')", "resnet.model"),
        ("if family == 'resnet': pass", "resnet"),
        ("def resnet_rate(): pass", "resnet_rate"),
        ("rate = config.resnet50", "resnet50"),
        ("make(resnet=1)", "resnet"),
        ("class ResNet: pass", "ResNet"),
    ],
)
def test_a_family_that_is_named_is_found(source, word):
    assert families_named({"common.a": source}, ["resnet", "vit"]) == [f"common.a:1 {word}"]


@pytest.mark.parametrize(
    "source",
    [
        '"""Trains ResNets: `--config=configs/resnet_digits.py`."""',
        "# resnet\nvital = 'resnet_crops'",
        "f = 'a resnet, say'",
    ],
)
def test_prose_may_name_a_family(source):
    assert families_named({"common.a": source}, ["resnet", "vit"]) == []


def test_private_names_are_found_wherever_they_are_used():
    source = """\
    from common.run import trained
    from common.run.trained import _load, load
    import common.train
    import numpy as np
    trained._load()
    common.train._loop
    monkeypatch.setattr(trained, "_load", None)
    np._core, trained.load, load.__doc__, self._own
    """
    assert private_names({"tests.a": textwrap.dedent(source)}, ["common"]) == [
        "tests.a:2 _load",
        "tests.a:5 trained._load",
        "tests.a:6 common.train._loop",
        "tests.a:7 trained._load",
    ]


def test_first_words_of_docstrings_are_found():
    source = '"""Whether it is."""\nclass A:\n    """Whatever."""\n    def f(self):\n        """What\'s this?"""\n'
    assert first_words({"common.a": source}) == ["common.a:1 Whether it is.", "common.a:5 What's this?"]


def test_errors_without_a_verb_are_found():
    source = '"""UserError if it fails."""\ndef f():\n    """An f. OSError\n    where none is."""\n'
    assert errors_without_a_verb({"common.a": source}) == [
        "common.a:1 UserError if it fails",
        "common.a:3 OSError where none is",
    ]
    assert not errors_without_a_verb({"common.a": '"""The f. Raises UserError if it fails."""'})
