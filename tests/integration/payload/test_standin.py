"""A program cannot tell a stand-in from the real module, and where it could, the real one is there."""

from __future__ import annotations

import os
import subprocess
import textwrap
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.support.pythons import VERSIONS

from .standing_in import Modules

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

WAYS = [*((version, "trial") for version in VERSIONS), ("3.6", "layer"), ("3.11", "layer"), ("3.13", "layer")]
Make = "Callable[..., Modules]"

# One package that has a bit of everything.
M = {
    "m/__init__.py": """
        '''What m is for.'''
        import collections
        from collections import OrderedDict
        from . import sub
        from .sub import Other, helper
        __version__ = "1.2.3"
        __all__ = ["Plain", "function", "LIMIT", "sub"]
        LIMIT = 7
        PAIR = ("a", 1)
        RATIO = 0.5
        NOTHING = None
        options = {"a": 1}
        _hidden = 3
        class Plain:
            '''Plain it is.'''
            size = 4
            def __init__(self, x=1): self.x = x
            def double(self): return self.x * 2
            def __eq__(self, other): return type(other) is Plain and other.x == self.x
            __hash__ = None
            class Inner: pass
        class Child(Plain): pass
        class Error(Exception): pass
        class Meta(type):
            def __new__(cls, *args, **more):
                made = super().__new__(cls, *args, **more)
                made.by_meta = True
                return made
        class Governed(metaclass=Meta): pass
        def function(a, b=2): return a + b
        make = Plain
        class Late:
            def hello(self): return "late"
    """,
    "m/sub.py": """
        class Other:
            def ask(self): return "other"
        def helper(): return "helped"
        from . import deep
    """,
    "m/deep/__init__.py": "from . import deeper\nDEPTH = 2\n",
    "m/deep/deeper.py": "class Bottom: pass\ndef reach(): return 'bottom'\n",
}
IMPORTS = ("m", "m.sub", "m.deep", "m.deep.deeper")


@pytest.fixture(params=WAYS, ids="-".join)
def stand(
    request: pytest.FixtureRequest, tmp_path: Path, write: Callable[..., Path], python_of: Callable[[str], str]
) -> Make:
    """Make modules: ``stand({path: source}, names to describe)``."""
    version, way = request.param

    def make(
        files: Mapping[str, str],
        names: tuple[str, ...],
        *,
        kept: bool = True,
        real: tuple[str, ...] = (),
        **more: object,
    ) -> Modules:
        site = write(tmp_path / "site", {path: textwrap.dedent(source) for path, source in files.items()})
        modules = Modules(python_of(version), site, tmp_path / "scratch", way, kept, real)
        return modules.describe(names, **more)  # type: ignore[arg-type]

    return make


def has_classes(modules: Modules) -> bool:
    """Return whether a stand-in has placeholders for classes: a class statement of 3.6 does not ask its bases."""
    return not os.path.basename(modules.python).startswith("python3.6")


def assert_asleep(modules: Modules, woke: set[str]) -> None:
    """Nothing was woken by classes, where there are placeholders for them."""
    assert not woke or not has_classes(modules)


# ---- imports ------------------------------------------------------------------------------------------------------


def test_statements_that_only_bind_wake_nothing(stand: Make) -> None:
    woke = stand(M, IMPORTS).honest(
        """
        import m, m.deep.deeper, m.deep as shallow
        import m.deep.deeper as lowest
        from m import function as f, sub, LIMIT, PAIR, __version__, OrderedDict, collections
        from m.deep import deeper
        import sys, os
        print(f.__name__, f.__module__, LIMIT, PAIR, __version__, OrderedDict, collections.__name__)
        print(deeper is lowest is m.deep.deeper, shallow is sys.modules["m.deep"], sub is m.sub)
        print(m.NOTHING, m.RATIO, m.__name__, m.__package__, os.path.dirname(m.__file__) == m.__path__[0])
        print(isinstance(m, type(sys)), hasattr(m, "absent"), callable(f))
        """
    )
    assert woke == set()


def test_classes_that_are_only_bound(stand: Make) -> None:
    modules = stand(M, IMPORTS)
    woke = modules.honest(
        """
        from m import Plain as P, Child, Late
        from m.sub import Other
        import m
        print(P.__name__, P.__qualname__, P.__module__, P, isinstance(P, type), callable(P))
        print(P is m.Plain, m.Other is Other, isinstance(3, P), issubclass(int, P), isinstance("x", (Late, str)))
        print(P == P, P != Child, {P: 1}[m.Plain])
        """
    )
    assert_asleep(modules, woke)


def test_used_after_all(stand: Make) -> None:
    woke = stand(M, IMPORTS).honest(
        """
        import m
        from m import function, Plain, Child, make, Other, helper
        from m.deep.deeper import reach
        print(function(1), Plain(3).double(), Child().double(), make(2).x, Other().ask(), helper(), reach())
        print(m.options, m.__doc__, Plain.__doc__, Plain.Inner.__qualname__, Plain.size)
        print(Plain is m.Plain, make is Plain, isinstance(Child(), Plain), issubclass(Child, Plain))
        """
    )
    assert "m" in woke


def test_star(stand: Make) -> None:
    files = {
        "listed/__init__.py": "__all__ = ['a', 'part']\na = 1\nb = 2\n",
        "listed/part.py": "x = 1\n",
        "fixed.py": "__all__ = ('a', '_c')\na = 1\nb = 2\ndef _c(): return 3\n",
        "free.py": "import os\na = 1\n_b = 2\ndef c(): return 3\n",
    }
    program = """
        before = set(globals())
        from {} import *
        print(sorted(set(globals()) - before - {{"before"}}))
        """
    modules = stand(files, ("listed", "fixed", "free"))
    for name in ("listed", "fixed", "free"):
        assert modules.honest(program.format(name)) <= {name}
    modules.honest("from fixed import *\nprint(_c())\n")


def test_absent_stays_absent(stand: Make) -> None:
    files = {
        **M,
        "gone.py": "raise ImportError('gone wants more', name='more')\n",
        "half.py": "try:\n    import gone\nexcept ImportError:\n    gone = None\n",
    }
    program = """
        import importlib, importlib.util
        def attempt(code):
            try:
                exec(code)
            except ImportError as exc:
                return type(exc).__name__, exc.name, str(exc).partition(" (")[0]
            return "there"
        import m, half
        for code in ("from m import missing", "import m.missing", "import missing", "import gone", "from gone import x",
                     "from m import missing as LIMIT", "from m.LIMIT import x", "import m.function",
                     "from half import gone"):
            print(code, attempt(code))
        print(half.gone, hasattr(m, "missing"), getattr(m, "missing", 5))
        try:
            from m import fast
        except ImportError:
            fast = "slow"
        print(fast)
        for name in ("m", "m.sub", "m.missing", "missing", "half"):
            print(name, importlib.util.find_spec(name) is not None)
        try:
            m.missing
        except AttributeError as exc:
            print(exc)
        """
    stand(files, (*IMPORTS, "half")).honest(program)


def test_versions(stand: Make) -> None:
    files = {**M, "m-1.2.3.dist-info/METADATA": "Metadata-Version: 2.1\nName: m\nVersion: 1.2.3\n"}
    woke = stand(files, IMPORTS).honest(
        """
        import sys, m
        assert tuple(map(int, m.__version__.split("."))) >= (1, 2)
        if sys.version_info >= (3, 8):
            import importlib.metadata
            assert importlib.metadata.version("m") == m.__version__
        print(getattr(m, "__version__", None), hasattr(m, "__version__"))
        """
    )
    assert woke == set()


def test_namespaces_and_lists_of_names_wake(stand: Make) -> None:
    modules = stand(M, IMPORTS)
    for look in ("vars(m)", "m.__dict__", "dir(m)", "m.__dir__()"):
        program = f"import m\nprint([n for n in {look} if not n.startswith('__') or n == '__all__'])\n"
        assert "m" in modules.honest(program)
    modules.honest("import inspect, m\nprint([n for n, _ in inspect.getmembers(m, inspect.isclass)])\n")


def test_attributes_of_every_module(stand: Make) -> None:
    stand(M, IMPORTS).honest(
        """
        import m
        print(m.__doc__, m.__builtins__ is __builtins__ or isinstance(m.__builtins__, dict))
        print(getattr(m, "__annotations__", None), m.__class__, repr(m.__spec__.name), m.__loader__ is not None)
        """
    )


def test_module_getattr(stand: Make) -> None:
    files = {
        "lazy.py": """
            known = 1
            def __getattr__(name):
                if name.startswith("made_"):
                    return name[5:]
                raise AttributeError("lazy has no " + name)
            def __dir__(): return ["known", "made_up"]
        """
    }
    modules = stand(files, ("lazy",))
    assert modules.honest("from lazy import known\nprint(known)\n") == set()
    later = "import sys, lazy\nprint(sys.version_info < (3, 7) or (lazy.made_up, dir(lazy), hasattr(lazy, 'none')))\n"
    modules.honest(later)


def test_modules_that_others_put_there(stand: Make) -> None:
    files = {
        "virtual.py": """
            import sys, types
            __path__ = []
            moves = types.ModuleType("virtual.moves")
            moves.answer = 42
            sys.modules["virtual.moves"] = moves
        """,
        "pack/__init__.py": """
            import os, sys, types
            __path__.append(os.path.join(os.path.dirname(__path__[0]), "elsewhere"))
            sys.modules["pack.sudden"] = types.SimpleNamespace(x=1)
        """,
        "elsewhere/far.py": "where = 'far'\n",
    }
    modules = stand(files, ("virtual", "pack"))
    modules.honest("import virtual\nimport virtual.moves\nprint(virtual.moves.answer)\n")
    modules.honest("from virtual.moves import answer\nprint(answer)\n")
    modules.honest("import pack.far\nprint(pack.far.where)\n")
    modules.honest("import pack, sys\nfrom pack.sudden import x\nprint(x, sys.modules['pack.sudden'])\n")


def test_a_name_that_hides_a_submodule(stand: Make) -> None:
    files = {
        "hide/__init__.py": "from .func import func\nfrom . import other\n",
        "hide/func.py": "def func(): return 'called'\n",
        "hide/other.py": "from .func import func as f\ndef func(): return f()\n",
    }
    stand(files, ("hide", "hide.func", "hide.other")).honest(
        """
        import hide.func, hide.other
        from hide import func
        import sys
        print(func.__name__, sys.modules["hide.func"].__name__, hide.func is func)
        print(func(), hide.func(), hide.other.func(), hide.func is func is sys.modules["hide.func"].func)
        """
    )


# ---- classes ------------------------------------------------------------------------------------------------------


def test_bases(stand: Make) -> None:
    stand(M, IMPORTS).honest(
        """
        import abc, typing, sys
        from m import Plain, Late, Governed, Child
        T = typing.TypeVar("T")
        class Real:
            pass
        class OtherMeta(type):
            pass
        class WithMeta(metaclass=OtherMeta):
            pass
        class A(Plain): pass
        class B(Real, Plain): pass
        class C(Late, abc.ABC):
            @abc.abstractmethod
            def f(self): pass
        class D(Plain, typing.Generic[T]): pass
        class E(Plain, WithMeta): pass
        class F(Late, metaclass=OtherMeta): pass
        class G(Governed, Real): pass
        for cls in (A, B, C, D, E, F, G):
            print(cls.__name__, [c.__qualname__ for c in cls.__mro__], type(cls).__name__)
        print(A(2).double(), isinstance(B(), Plain), E().double(), G.by_meta, D[int]().double(), F().hello())
        """
    )


def test_bases_that_are_computed(stand: Make) -> None:
    modules = stand(M, IMPORTS)
    modules.honest(
        """
        import types
        from m import Plain, Late
        A = types.new_class("A", (Plain,), {})
        B = type(Late)("B", (Late,), {"x": 1})
        print([c.__name__ for c in A.__mro__ + B.__mro__], B.x, type(A), type(B))
        """
    )


def test_type_refuses_a_placeholder_aloud(stand: Make) -> None:
    """C code that looks at nothing but the C type of a base cannot be told: an error, never a wrong class."""
    modules = stand(M, IMPORTS)
    ended = modules.stood_in("from m import Plain\nA = type('A', (Plain,), {})\nprint(A.__mro__[1] is Plain)\n")
    if has_classes(modules):
        assert ended.code == 1
        assert "TypeError: type() doesn't support MRO entry resolution" in ended.error
    else:
        assert ended.out == "True\n"
    modules.honest("import m\nm.options\nA = type('A', (m.Plain,), {})\nprint(A.__mro__[1] is m.Plain)\n")


def test_metaclass_from_a_stand_in(stand: Make) -> None:
    stand(M, IMPORTS).honest(
        """
        from m import Meta
        class A(metaclass=Meta): pass
        class B(A): pass
        print(A.by_meta, B.by_meta, type(B) is Meta, isinstance(A, Meta))
        """
    )


def test_abstract_base_classes(stand: Make) -> None:
    files = {
        **M,
        "abstract.py": """
            import abc
            class Shape(abc.ABC):
                @classmethod
                def __subclasshook__(cls, other): return NotImplemented if cls is not Shape else hasattr(other, "area")
            class Sized(abc.ABC): pass
        """,
    }
    stand(files, (*IMPORTS, "abstract")).honest(
        """
        import collections.abc
        from m import Plain, Late
        from abstract import Shape, Sized
        class Square:
            area = 1
        collections.abc.Sequence.register(Plain)
        print(issubclass(Plain, collections.abc.Sequence), isinstance(Plain(), collections.abc.Sequence))
        print(issubclass(Late, collections.abc.Hashable), issubclass(Late, Sized), isinstance(Square(), Shape))
        Sized.register(Late)
        print(isinstance(Late(), Sized), issubclass(Late, Sized), issubclass(Plain, Late), issubclass(Plain, object))
        """
    )


def test_protocols_that_derive_from_an_abstract_base_class(stand: Make) -> None:
    """Protocols are asked on behalf of their bases. They refuse, unless the frame that asks is one of ``abc``."""
    stand(M, IMPORTS).honest(
        """
        import collections.abc, sys, typing
        from m import Plain
        if sys.version_info >= (3, 8):
            class Named(collections.abc.Iterable, typing.Protocol):
                name: str
            class Sub(Named, typing.Protocol):
                other: str
        print(isinstance(3, collections.abc.Iterable), issubclass(Plain, collections.abc.Iterable))
        """
    )


def test_what_derives_from_what(stand: Make) -> None:
    files = {
        "ground.py": "class Ground: pass\n",
        "upper/__init__.py": """
            from ground import Ground
            class Base(Ground): pass
            class Top(Base): pass
            class Alone: pass
        """,
    }
    stand(files, ("upper",), groups={"ground": "ground"}).honest(
        """
        from ground import Ground
        from upper import Top, Base, Alone
        print(issubclass(Top, Ground), issubclass(Base, Ground), issubclass(Alone, Ground), issubclass(Top, Top))
        print(issubclass(Top, Base), issubclass(Base, Top), issubclass(Ground, Top), Alone.__bases__, len(Top.__mro__))
        try:
            issubclass(3, Top)
        except TypeError as exc:
            print(exc)
        """
    )


def test_a_class_that_says_it_is_from_elsewhere(stand: Make) -> None:
    files = {
        "api/__init__.py": "from impl import Thing\n",
        "impl.py": "class Thing: pass\nThing.__module__ = 'api'\ndef make(): return Thing()\n",
    }
    modules = stand(files, ("api",))
    del modules.tables["impl"]
    if modules.way == "trial":
        modules.honest(
            "from api import Thing\nimport impl\nprint(isinstance(impl.make(), Thing), isinstance(1, Thing))\n"
        )


def test_exceptions(stand: Make) -> None:
    files = {**M, "fails.py": "import m\ndef fail(): raise m.Error('it')\n"}
    stand(files, (*IMPORTS, "fails")).honest(
        """
        from m import Error as E
        import m, fails
        try:
            fails.fail()
        except E as exc:
            print("caught", exc)
        try:
            {}["x"]
        except (m.Error, KeyError) as exc:
            print(type(exc))
        class Mine(E): pass
        try:
            raise Mine("mine")
        except m.Error as exc:
            print(exc, isinstance(exc, E))
        """
    )


def test_annotations(stand: Make) -> None:
    modules = stand(M, IMPORTS)
    woke = modules.honest(
        """
        import sys, typing
        from typing import Optional, Union, List, Dict, Callable
        from m import Plain, Late
        def f(a: Plain, b: Optional[Plain] = None, *c: List[Late], d: Union[Plain, int, None] = 1) -> Dict[str, Late]:
            pass
        def g(a: "Plain", b: Callable[[Plain], Late]): pass
        class Row(typing.NamedTuple):
            a: Plain
            b: Optional[Late] = None
        if sys.version_info >= (3, 9):
            def h(a: list[Plain], b: type[Plain]): pass
        if sys.version_info >= (3, 10):
            def i(a: Plain | None, b: int | Late = 3): pass
        print(sorted(f.__annotations__), Row._fields)
        """
    )
    assert_asleep(modules, woke)
    modules.honest(
        """
        import sys, typing
        from typing import Optional, Union
        from m import Plain, Late
        def f(a: Plain, b: Optional[Plain] = None, *, c: Union[Plain, int] = 1, d: "Late" = None, **more: "Plain"): pass
        print(typing.get_type_hints(f)["c"] is not None)
        Plain(), Late()
        import m
        hints = typing.get_type_hints(f)
        print(hints["a"] is m.Plain, hints["b"] == Optional[m.Plain], hints["c"] == Union[m.Plain, int])
        print(hints["d"] is not None, hints["more"] is m.Plain)
        print(f.__annotations__["a"] is m.Plain, Optional[Plain] == Optional[m.Plain], hash(Plain) == hash(m.Plain))
        if sys.version_info >= (3, 10):
            print(isinstance(Plain(), Plain | None), isinstance(None, Plain | None), isinstance(3, Plain | None))
        try:
            print(isinstance(Plain | None, object) and sys.version_info >= (3, 10))
        except TypeError as exc:
            print("no unions of classes yet")
        """
    )


def test_dataclasses(stand: Make) -> None:
    modules = stand(M, IMPORTS)
    program = """
        try:
            import dataclasses
        except ImportError:
            print("none yet")
            raise SystemExit
        from m import Plain, Late, function
        @dataclasses.dataclass
        class Row:
            a: Plain
            b: type = Late
            c: object = dataclasses.field(default_factory=Plain)
            d: object = function
        @dataclasses.dataclass(frozen=True)
        class Fixed:
            a: type = Plain
        fixed = Fixed()
        print([field.name for field in dataclasses.fields(Row)], Row.__dataclass_params__.eq)
        """
    assert_asleep(modules, modules.honest(program))
    modules.honest(
        program
        + """
        row = Row(Plain(3))
        import m
        print(row.a == Plain(3), row.b().hello(), row.c == Plain(), dataclasses.fields(Row)[0].type is m.Plain)
        print(row.b is m.Late, Row.b is m.Late, fixed.a is m.Plain, Fixed().a is m.Plain, Row(1).d(2))
        """
    )


def test_single_dispatch(stand: Make) -> None:
    modules = stand(M, IMPORTS)
    program = """
        import functools
        from m import Plain, Late
        @functools.singledispatch
        def tell(x): return "any"
        @tell.register(Plain)
        def _(x): return "plain"
        tell.register(Late, lambda x: "late")
        print(tell(3), tell("x"))
        """
    assert_asleep(modules, modules.honest(program))
    modules.honest(
        program
        + """
        import m
        print(tell(m.Plain()), tell(m.Child()), tell(m.Late()), tell(3), m.Plain in tell.registry)
        """
    )


def test_dispatch_by_several_types(stand: Make) -> None:
    modules = stand(M, IMPORTS)
    program = """
        from m import Plain, Late
        class Signature:
            __slots__ = ("types",)
            def __init__(self, *types): self.types = types
            def match(self, args): return all(isinstance(a, t) for a, t in zip(args, self.types))
        class Dispatcher:
            def __init__(self): self.table, self.order, self.cache = {}, [], {}
            def on(self, *types):
                def add(f):
                    self.table[types] = f
                    self.order.append((Signature(*types), f))
                    return f
                return add
            def __call__(self, *args):
                exact = self.table.get(tuple(map(type, args)))
                for signature, f in self.order:
                    if signature.match(args):
                        return f.__name__, exact is f
                return "none", exact
        d = Dispatcher()
        @d.on(Plain, int)
        def plain_int(a, b): pass
        @d.on(int, Late)
        def int_late(a, b): pass
        @d.on((Plain, str), frozenset)
        def either(a, b): pass
        @d.on(object, object)
        def anything(a, b): pass
        known = frozenset([Plain, int])
        nested = {"x": [(1, (Late, "y"))]}
        print(d(1, 2), d("x", frozenset()), int in known)
        """
    assert_asleep(modules, modules.honest(program))
    modules.honest(
        program
        + """
        import m
        print(d(m.Plain(), 2), d(1, m.Late()), d(m.Plain(), frozenset()), d(m.Late(), 1), d(m.Child(), 2))
        print(m.Plain in known, type(m.Plain()) in known, nested["x"][0][1][0] is m.Late, m.Plain in (int, Plain))
        print([[t.__name__ for t in key if isinstance(t, type)] for key in d.table])
        """
    )


# ---- identity -----------------------------------------------------------------------------------------------------


def test_identity_after_waking(stand: Make) -> None:
    stand(M, IMPORTS).honest(
        """
        import collections, functools, weakref, sys
        import m
        from m import Plain, Late, function, Other
        class Holder:
            cls = Plain
            call = function
            apply = staticmethod(function)
            def __init__(self): self.own, self.more = Plain, [Late, {"k": Late}]
        class Slotted:
            __slots__ = ("a", "b")
            def __init__(self): self.a, self.b = Plain, (Plain, 1)
        def closure():
            inner = Plain
            return lambda: inner
        def defaults(a=Plain, *, b=Late): return a, b
        holder, slotted, closed = Holder(), Slotted(), closure()
        items = [Plain, 1]
        unique = {Plain, 2}
        ordered = collections.OrderedDict([("z", 0), (Plain, 1), ("a", 2)])
        plain_dict = {1: 0, Late: 1, "last": 2}
        queue = collections.deque([Late])
        weak = weakref.WeakKeyDictionary()
        weak[Plain] = "weakly"
        weak_set = weakref.WeakSet([Late])
        part = functools.partial(function, 5)
        Point = collections.namedtuple("Point", "x")
        point = Point(Late)
        print(len(items))
        m.options
        print(Plain is m.Plain, Holder.cls is m.Plain, holder.own is m.Plain, holder.more[0] is m.Late,
              holder.more[1]["k"] is m.Late, slotted.a is m.Plain, slotted.b[0] is m.Plain,
              closed() is m.Plain or sys.version_info < (3, 7), items[0] is m.Plain, m.Plain in unique, len(unique))
        print(defaults()[0] is m.Plain, defaults()[1] is m.Late, list(ordered.values()), list(plain_dict.values()),
              [getattr(k, "__name__", k) for k in ordered], m.Late in plain_dict, queue[0] is m.Late)
        print(weak.get(m.Plain), m.Late in weak_set, part(1), Holder.apply(1), Holder().apply(2, 3), Other is m.Other)
        print(isinstance(m.Plain(), Plain), isinstance(m.Plain(), holder.own), point.x == m.Late, point.x().hello())
        """
    )


def test_locals_of_running_code_forward(stand: Make) -> None:
    stand(M, IMPORTS).honest(
        """
        import m
        def run():
            from m import Plain, function, Late
            kept = Plain
            m.options
            assert kept(4).double() == 8 and kept == m.Plain and m.Plain == kept and not kept != m.Plain
            assert isinstance(m.Plain(), kept) and issubclass(m.Child, kept) and issubclass(kept, m.Plain)
            assert {m.Plain: 1}[kept] == 1 and hash(kept) == hash(m.Plain) and kept != Late
            assert repr(kept) == repr(m.Plain) and kept.size == 4 and vars(kept).keys() == vars(m.Plain).keys()
            class Derived(kept): pass
            assert Derived.__mro__[1] is m.Plain and kept.__init__ is m.Plain.__init__
            return function(1)
        print(run())
        """
    )


def test_builtin_functions_do_not_bind(stand: Make) -> None:
    files = {"c.py": "from _bisect import bisect_left\nfrom math import hypot\ndef own(self): return 'bound'\n"}
    stand(files, ("c",)).honest(
        """
        import inspect, types
        from c import own
        import c
        class A:
            f = own
        print(A().f(), inspect.isfunction(own), inspect.isbuiltin(own), isinstance(own, types.FunctionType))
        print(c.hypot(3, 4), inspect.isbuiltin(c.hypot), str(inspect.signature(own)), own.__code__.co_name)
        """
    )


def test_decorated_functions_that_share_a_name(stand: Make) -> None:
    files = {
        "deco.py": """
            import functools
            def loud(f):
                @functools.wraps(f)
                def inner(*args): return f(*args).upper()
                return inner
            def quiet(): return "hush"
            noisy = loud(quiet)
            class Twin: kind = 1
            First = Twin
            class Twin: kind = 2
        """
    }
    stand(files, ("deco",)).honest(
        """
        from deco import quiet, noisy, First, Twin
        print(quiet is noisy, First is Twin)
        print(quiet(), noisy(), First.kind, Twin.kind)
        """
    )


# ---- what is set --------------------------------------------------------------------------------------------------


def test_what_is_set_before_waking_stays(stand: Make) -> None:
    stand(M, IMPORTS).honest(
        """
        import m
        from m import Plain, function, Late
        original = m.function
        def louder(*args): return original(*args) * 100
        m.function = louder
        m.LIMIT = 70
        m.added = "added"
        Late.hello = lambda self: "patched"
        Late.extra = 5
        print(m.LIMIT, m.added, m.function is louder, Late.extra)
        print(function(1), m.function(1), original is function, m.function is louder)
        print(m.options, m.LIMIT, m.added, Late().hello(), m.Late.extra, hasattr(m, "extra"))
        del m.added
        print(hasattr(m, "added"))
        try:
            del m.nothing
        except AttributeError:
            print("not there")
        """
    )


def test_what_is_set_further_down(stand: Make) -> None:
    files = {
        "opts.py": """
            class Options:
                def __init__(self): self.width, self.deeper = 1, None
                def __setattr__(self, name, value):
                    if value == "bad":
                        raise ValueError("bad " + name)
                    object.__setattr__(self, name, value)
            options = Options()
            options.deeper = Options()
            def show(): return options.width, options.deeper.width
        """
    }
    modules = stand(files, ("opts",))
    modules.honest(
        """
        import opts
        opts.options.width = 5
        opts.options.deeper.width = 6
        opts.options.deeper.width += 1
        held = opts.options
        held.width = 8
        print(opts.show(), opts.options is held, getattr(opts, "options").width)
        """
    )
    ended = modules.stood_in(
        """
        import opts
        try:
            opts.options.width = "bad"
            opts.show()
        except ValueError as exc:
            print(exc)
        print(opts.show(), type(opts).__name__)
        """
    )
    assert ended.out == "bad width\n(1, 1) module\n", ended.error


def test_patched_methods_that_call_the_original(stand: Make) -> None:
    stand(M, IMPORTS).honest(
        """
        from m import Plain
        original = Plain.__init__
        def __init__(self, x=1): original(self, x + 1)
        Plain.__init__ = __init__
        print(Plain(1).double(), Plain.__init__ is __init__, callable(Plain.__eq__), Plain.__hash__)
        """
    )


def test_mocked(stand: Make) -> None:
    stand(M, IMPORTS).honest(
        """
        from unittest import mock
        import m
        with mock.patch("m.function", lambda *a: "mocked"), mock.patch.object(m.Plain, "double", lambda self: "no"):
            print(m.function(1), m.Plain().double())
        print(m.function(1), m.Plain().double())
        """
    )


# ---- pickle, copy, reload -----------------------------------------------------------------------------------------


def test_pickle_and_copy(stand: Make) -> None:
    stand(M, IMPORTS).honest(
        """
        import copy, pickle, sys
        from m import Plain, function, Late, Other, helper
        for protocol in range(pickle.HIGHEST_PROTOCOL + 1):
            for thing in (Plain, function, Late, [Other, {"h": helper}]):
                again = pickle.loads(pickle.dumps(thing, protocol))
                print(again == thing, end=" ")
            print(pickle.loads(pickle.dumps(Plain(4), protocol)).double())
            print(pickle.loads(pickle._dumps(Late, protocol)) is Late)
        import m
        def run():
            from m.deep.deeper import Bottom, reach
            kept = copy.deepcopy([Bottom, reach]) + [copy.copy(Bottom)]
            assert pickle.loads(pickle.dumps(Bottom)) == Bottom
            return kept[0] == Bottom and kept[2] is kept[0] and kept[1] == reach
        print(run(), copy.deepcopy(Plain(3)) == Plain(3), copy.copy(function) is function)
        """
    )


def test_pickles_from_elsewhere(stand: Make) -> None:
    stand(M, IMPORTS).honest(
        """
        import io, pickle, subprocess, sys
        make = "import pickle, m; all = [m.Plain(3), m.Late, m.function, m.Other()]; "
        make += "print([pickle.dumps(all, p) for p in range(5)])"
        import m
        from m import Late, Plain
        path = [p for p in sys.path if p.endswith(("/site", "/layer"))][0]
        code = "import sys; sys.path.insert(0, %r); " % path + make
        for data in eval(subprocess.check_output([sys.executable, "-B", "-S", "-c", code]).decode()):
            a, b, c, d = pickle.loads(data)
            print(a.double(), b == Late, c(1), d.ask(), type(a) is m.Plain, isinstance(a, Plain))
        class Finder(pickle.Unpickler):
            def find_class(self, module, name): return super().find_class(module, name)
        print(Finder(io.BytesIO(data)).load()[0].x, pickle._loads(data)[0].x)
        """
    )


@pytest.mark.parametrize("touch", ["", "m.function(1); m.sub.helper(); m.deep.deeper.reach()"])
def test_reload(stand: Make, touch: str) -> None:
    modules = stand(
        {**M, "count.py": "try:\n    n += 1\nexcept NameError:\n    n = 1\ndef get(): return n\n"}, (*IMPORTS, "count")
    )
    modules.honest(
        f"""
        import importlib, m, count
        from m import Plain
        {touch}
        m.mark = "kept"
        again = importlib.reload(m)
        print(again is m, m.mark, m.function(1), m.Plain(2).double(), m.options, hasattr(m, "stand_in"))
        print(importlib.reload(m.sub) is m.sub, m.sub.helper(), m.__spec__.name, m.deep.deeper.reach())
        print(importlib.reload(count).get(), importlib.reload(count).get())
        """
    )


def test_taken_out_of_the_table_of_modules(stand: Make) -> None:
    stand(M, IMPORTS).honest(
        """
        import sys, m
        first = m
        for name in [n for n in sys.modules if n == "m" or n.startswith("m.")]:
            del sys.modules[name]
        print(first.function(1), "m" in sys.modules)
        import m
        print(m is first, m.function(2), first.options is m.options, m.Plain is first.Plain)
        """
    )


# ---- waking -------------------------------------------------------------------------------------------------------


def test_a_real_module_that_fails(stand: Make) -> None:
    files = {
        "fails/__init__.py": """
            import os
            early = 1
            if os.environ.get("FAIL"):
                raise {"v": ValueError, "a": AttributeError, "i": ImportError}[os.environ["FAIL"]]("told to")
            def late(): return "fine"
            class Thing: pass
        """
    }
    modules = stand(files, ("fails",))
    program = """
        import os, fails
        from fails import late, Thing
        fails.mark = 1
        def touch(what):
            try:
                return what()
            except Exception as exc:
                return type(exc).__name__, "told to" in str(exc)
        for kind in "vai":
            os.environ["FAIL"] = kind
            print(touch(late), touch(lambda: fails.__dict__), touch(lambda: hasattr(fails, "__doc__")), touch(Thing))
        del os.environ["FAIL"]
        print(touch(late), fails.mark, fails.early, touch(Thing) is not None, late is fails.late)
        """
    ended = modules.stood_in(program)
    assert ended.code == 0, ended.error
    *failed, worked = ended.out.splitlines()
    if has_classes(modules):
        wrapped = "('ImportError', True)"  # an AttributeError would pass for a name that is missing
        assert failed[0] == " ".join(["('ValueError', True)"] * 4)
        assert failed[1] == " ".join([wrapped] * 4)
        assert failed[2] == " ".join([wrapped] * 4)
    assert worked == "fine 1 1 True True"


def test_threads_see_whole_modules(stand: Make) -> None:
    files = {
        "slow/__init__.py": """
            import time
            first = 1
            time.sleep(0.2)
            from . import part
            def last(): return part.value
            late = {}
        """,
        "slow/part.py": "import time\ntime.sleep(0.1)\nvalue = 5\nclass Part:\n    x = 1\n",
    }
    stand(files, ("slow", "slow.part")).honest(
        """
        import threading, slow, slow.part
        from slow import last
        from slow.part import Part
        wrong, seen = [], []
        start = threading.Barrier(8)
        def look(number):
            start.wait()
            try:
                asks = [lambda: slow.late, last, lambda: Part.x, lambda: slow.part.value, lambda: vars(slow)["late"],
                        lambda: slow.last(), lambda: __import__("slow.part").part.Part().x, lambda: slow.extra]
                if number == 7:
                    slow.extra = 1
                seen.append(asks[number]())
                from slow import late, part
                assert part.value == 5 and slow.extra == 1 or number != 7
            except BaseException as exc:
                wrong.append((number, repr(exc)))
        threads = [threading.Thread(target=look, args=(n,)) for n in range(8)]
        for thread in threads: thread.start()
        for thread in threads: thread.join()
        print(wrong, len(seen))
        """
    )


def test_threads_that_wait_for_each_other(stand: Make) -> None:
    files = {
        "left.py": "import time\nx = 1\ntime.sleep(0.2)\nimport right\ndef f(): return right.y\n",
        "right.py": "import time\ny = 2\ntime.sleep(0.2)\nimport left\ndef g(): return left.x\n",
    }
    stand(files, ("left", "right")).honest(
        """
        import threading, left, right
        out = []
        threads = [threading.Thread(target=lambda f=f: out.append(f())) for f in (lambda: left.f(), lambda: right.g())]
        for thread in threads: thread.start()
        for thread in threads: thread.join(20)
        print(sorted(out), left.f(), right.g())
        """
    )


def test_circular_imports(stand: Make) -> None:
    files = {
        "ring/__init__.py": "from . import a, b\n",
        "ring/a.py": "base = 1\nfrom .b import twice\nvalue = twice(base)\n",
        "ring/b.py": """
            from .a import base
            def twice(n): return n * 2 + base
            from . import a
            def ask(): return a.value
        """,
    }
    modules = stand(files, ("ring", "ring.a", "ring.b"))
    for program in (
        "import ring.b as b\nprint(b.ask(), b.twice(2))\n",
        "import ring\nprint(ring.b.ask(), ring.a.value)\n",
        "from ring.a import twice\nprint(twice(3))\n",
        "from ring import b, a\nfrom ring.b import ask\nprint(ask(), a.twice is b.twice)\n",
    ):
        modules.honest(program)


def test_a_package_is_real_before_a_real_module_in_it(stand: Make) -> None:
    files = {
        "ring/__init__.py": "from . import user\n",
        "ring/user.py": "from .errors import Trouble\n",
        "ring/errors.py": "from . import user\nclass Trouble(Exception): pass\n",
        "ring/deep/__init__.py": "from ..errors import Trouble\n",
        "ring/deep/leaf.py": "from . import Trouble\nname = Trouble.__name__\n",
    }
    modules = stand(files, ("ring", "ring.deep.leaf"), real=("ring.errors", "ring.deep", "ring.deep.leaf"))
    for program in (
        "import ring\nfrom ring.errors import Trouble\nprint(Trouble is ring.user.Trouble)\n",
        "import ring.deep.leaf as leaf\nprint(leaf.name, leaf.__spec__.name, leaf.__name__)\n",
        "from importlib.util import find_spec\nprint(find_spec('ring.errors').name, find_spec('ring.nothing'))\n",
        "import ring.errors, importlib\nprint(importlib.reload(ring.errors) is ring.errors, ring.errors.__name__)\n",
    ):
        assert "ring" in modules.honest(program)


def test_a_function_that_says_it_is_of_the_package_is_found_where_it_was_made(stand: Make) -> None:
    files = {
        "pack/__init__.py": "from .made import double\n",
        "pack/made.py": "def double(x):\n    'Twice.'\n    return 2 * x\ndouble.__module__ = 'pack'\n",
    }
    modules = stand(files, ("pack",), real=("pack",))
    assert modules.honest("import pack\nprint(pack.double.__doc__, pack.double(4))\n") == {"pack.made"}


def test_modules_in_a_circle_keep_the_order_of_their_imports(stand: Make) -> None:
    files = {
        "knot/__init__.py": "from . import early, user\n",
        "knot/early.py": "from . import prims\ndef reader(): return prims.Reader\n",
        "knot/user.py": "from . import store\ndef reader(): return store.Reader\n",
        "knot/prims.py": "from .store import Reader\n",  # fails where the store comes first
        "knot/store.py": "from . import prims\nclass Reader: pass\n",
        "knot/wrong.py": "from .store import nothing\n",
    }
    groups = {"knot.early": "knot.early", "knot.user": "knot.user"}
    real = ("knot", "knot.prims", "knot.store", "knot.wrong")
    modules = stand(files, ("knot",), real=real, groups=groups)
    if modules.way == "trial":
        pytest.skip("a trial has no cold store, from which modules are loaded in another order")
    for program in (
        "import knot.store\nprint(knot.early.reader() is knot.store.Reader is knot.prims.Reader)\n",
        "from knot.user import reader\nimport knot.store\nprint(reader() is knot.store.Reader)\n",
        "try:\n    import knot.wrong\nexcept ImportError as exc:\n    print(exc.name, exc.msg.partition('(')[0])\n",
    ):
        assert "knot.early" in modules.honest(program)


def test_modules_that_take_their_own_place(stand: Make) -> None:
    files = {
        "itself.py": """
            import sys, types
            class Better(types.ModuleType):
                @property
                def dynamic(self): return "computed"
            sys.modules[__name__].__class__ = Better
            def f(): return 1
        """,
        "other/__init__.py": """
            import sys, types
            def f(): return "old"
            new = types.SimpleNamespace(f=lambda: "new", __name__="other", __path__=__path__, __spec__=__spec__)
            import other.child
            sys.modules[__name__] = new
            new.child = sys.modules["other.child"]
        """,
        "other/child.py": "x = {}\n",
        "plain.py": "def f(): return 'plain'\nimport other.child\n",
    }
    modules = stand(files, ("itself", "other", "other.child", "plain"))
    # None of these has a table: it is no plain module when it is looked at. These are tables as of another run.
    for name in ("itself", "other"):
        names = {"f": ["function", name, "f"]}
        modules.tables.setdefault(name, {"names": names, "dynamic": True, "group": name, "also": []})
    if modules.way == "layer":
        return
    modules.honest("import itself\nfrom itself import f\nprint(f(), itself.dynamic, type(itself).__name__)\n")
    modules.honest(
        """
        import other, plain, sys
        held = [other]
        print(other.f(), held[0].f(), other.child.x, sys.modules["other"].f(), held[0] is sys.modules["other"] or 1)
        import other
        from other import f
        print(f(), plain.f(), other is sys.modules["other"])
        """
    )


EXTENSION = """
#include <Python.h>
static PyObject *ask(PyObject *self, PyObject *args) {
    PyObject *module = PyImport_ImportModule("offers.part");
    PyObject *table = module ? PyObject_GetAttrString(module, "__pyx_capi__") : NULL;
    Py_XDECREF(module);
    return table;
}
static PyObject *type_of(PyObject *self, PyObject *args) {
    PyObject *module = PyImport_ImportModule("offers.part");
    PyObject *type = module ? PyObject_GetAttrString(module, "Kind") : NULL;
    Py_XDECREF(module);
    if (type && !PyType_Check(type)) {
        PyErr_SetString(PyExc_TypeError, "offers.part.Kind is not a type object");
        Py_CLEAR(type);
    }
    return type;
}
static PyMethodDef methods[] = {
    {"ask", ask, METH_NOARGS, "Ask."}, {"type_of", type_of, METH_NOARGS, ""}, {NULL, NULL, 0, NULL}};
#ifdef SINGLE
static struct PyModuleDef definition = {PyModuleDef_HEAD_INIT, "wants", NULL, -1, methods};
PyMODINIT_FUNC PyInit_wants(void) {
    PyObject *module = PyModule_Create(&definition);
    PyObject *type = module ? type_of(NULL, NULL) : NULL;
    return !type || PyModule_AddObject(module, "kind", type) ? NULL : module;
}
#else
static int fill(PyObject *module) {
    PyObject *type = type_of(NULL, NULL);
    return type ? PyModule_AddObject(module, "kind", type) : -1;
}
static PyModuleDef_Slot slots[] = {{Py_mod_exec, fill}, {0, NULL}};
static struct PyModuleDef definition = {PyModuleDef_HEAD_INIT, "wants", NULL, 0, methods, slots};
PyMODINIT_FUNC PyInit_wants(void) { return PyModuleDef_Init(&definition); }
#endif
"""


@pytest.mark.parametrize("phases", ["SINGLE", "MULTIPLE"])
def test_extension_modules(
    stand: Make, phases: str, tmp_path: Path, python_of: Callable[[str], str], request: pytest.FixtureRequest
) -> None:
    version, way = request.node.callspec.params["stand"]
    python = python_of(version)
    asked = [python, "-c", "import sysconfig as s; print(s.get_paths()['include'], s.get_config_var('EXT_SUFFIX'))"]
    include, suffix = subprocess.run(asked, capture_output=True, text=True, check=True).stdout.split()
    if not Path(include, "Python.h").exists():
        pytest.skip("this Python has no headers")
    (tmp_path / "wants.c").write_text(EXTENSION)
    (tmp_path / "site").mkdir()
    built = tmp_path / "site" / f"wants{suffix}"
    build = ["gcc", "-shared", "-fPIC", "-w", f"-D{phases}", f"-I{include}", "-o", built, tmp_path / "wants.c"]
    try:
        subprocess.run(list(map(str, build)), check=True)
    except FileNotFoundError:
        pytest.skip("there is no gcc")
    files = {
        "offers/__init__.py": "",
        "offers/part.py": "__pyx_capi__ = {'f': 'void (int)'}\nclass Kind: pass\n",
        "uses.py": "import wants\nfrom wants import kind, ask\n",
    }
    modules = stand(files, ("offers.part", "wants", "uses"))
    assert modules.honest("import offers.part, uses, wants\nprint(wants.__name__)\n") == set()
    woke = modules.honest(
        """
        import offers.part, wants, pickle, sys
        from wants import ask
        held = [wants]
        print(wants.__name__, sorted(ask()), ask.__name__, pickle.loads(pickle.dumps(ask)) == wants.ask)
        print(wants.ask is ask or ask == wants.ask, held[0] is sys.modules["wants"] is wants, "ask" in dir(wants))
        print(wants.kind is offers.part.Kind, wants.type_of() is offers.part.Kind, repr(wants)[:14], wants.__doc__)
        wants.more = 3
        print(held[0].more, vars(wants)["more"], hasattr(wants, "less"))
        """
    )
    assert woke == {"wants", "offers", "offers.part"}
    if way == "trial":
        modules.honest("import uses\nprint(uses.kind.__name__, uses.ask())\n")


# ---- groups, companions, what was left out ------------------------------------------------------------------------

FAMILY = {
    "fam/__init__.py": "",
    "fam/one.py": "def f(): return 1\nclass A: pass\n",
    "fam/two.py": "def g(): return 2\nclass B: pass\n",
    "fam/three.py": "def h(): return 3\n",
    "lone.py": "def l(): return 4\n",
}


def test_groups_are_real_as_one(stand: Make) -> None:
    modules = stand(FAMILY, ("fam.one", "fam.two", "fam.three", "lone"))
    woke = modules.honest(
        """
        import fam.one, lone
        from fam import two
        print(fam.one.f(), two.__name__)
        import fam.three
        from lone import l
        print(l.__name__)
        """
    )
    assert woke - {"fam.three"} == {"fam", "fam.one"}  # a trial's finder gives the real one without a word
    ended = modules.stood_in(
        """
        import fam.one, fam.two, sys
        fam.one.f()
        import fam.two
        import fam.three
        print([type(sys.modules["fam." + name]).__name__ for name in ("one", "two", "three")])
        """
    )
    assert ended.out == "['module', 'module', 'module']\n", ended.error


def test_companions_come_along(stand: Make) -> None:
    files = {**FAMILY, "leads.py": "import fam.two\nx = 1\n"}
    modules = stand(files, ("leads", "fam.two", "fam.one"), leads=["fam.two"])
    assert modules.honest("import sys, leads\nprint(leads.x, 'fam.two' in sys.modules)\n") == set()


def test_what_was_left_out_says_so(tmp_path: Path, write: Callable[..., Path], python_of: Callable[[str], str]) -> None:
    site = write(
        tmp_path / "site", {"m/__init__.py": "from . import sub\nclass A: pass\nlate = {}\n", "m/sub.py": "x = {}\n"}
    )
    modules = Modules(python_of("3.11"), site, tmp_path / "scratch", "layer", kept=False).describe(("m", "m.sub"))
    ended = modules.stood_in(
        """
        import m, importlib.util, m.sub
        from m import A
        for touch in (lambda: m.late, A, lambda: m.sub.x, lambda: m.late):
            try:
                touch()
            except ModuleNotFoundError as exc:
                print(exc.name, exc)
        print(importlib.util.find_spec("m.missing"), m.__name__, A)
        try:
            import m.missing
        except ImportError as exc:
            print(exc.name)
        """
    )
    assert ended.code == 0, ended.error
    *lines, probed, missing = ended.out.splitlines()
    assert [line.split()[0] for line in lines] == ["m"] * 4
    assert all(
        "No module named 'm': " in line and "the layer layer-R" in line and "--keep m," in line for line in lines
    )
    assert probed == "None m <class 'm.A'>"
    assert missing == "m"
    assert ended.woke == set()
