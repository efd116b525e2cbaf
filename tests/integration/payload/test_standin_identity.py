"""What is a placeholder before its module is loaded is the real thing after that, wherever a program can look."""

from __future__ import annotations

import textwrap
from typing import TYPE_CHECKING

import pytest

from .standing_in import Modules

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

WAYS = [("3.7", "trial"), ("3.9", "trial"), ("3.10", "trial"), ("3.11", "layer"), ("3.12", "trial"), ("3.13", "layer")]
KINDS = """
    class Plain:
        size = 4
        def __init__(self, x=1): self.x = x
        def double(self): return self.x * 2
    class Late:
        def hello(self): return "late"
    class Child(Plain): pass
    def function(a=1, b=2): return a, b
"""
START = """
import sys, typing, functools, collections, weakref, copy, pickle, inspect, enum, types, dataclasses
from typing import Optional, Union, List, Dict, Callable, Type
import m
from m import Plain, Late, Child, function
HAS_UNIONS = sys.version_info >= (3, 10)
"""
WAKE = "m.__dict__\n"
Make = "Callable[..., Modules]"


@pytest.fixture(params=WAYS, ids="-".join)
def stand(
    request: pytest.FixtureRequest, tmp_path: Path, write: Callable[..., Path], python_of: Callable[[str], str]
) -> Make:
    """Make modules: ``stand({path: source}, names to describe)``."""
    version, way = request.param

    def make(files: dict[str, str], names: tuple[str, ...], **more: dict[str, str]) -> Modules:
        site = write(tmp_path / "site", {path: textwrap.dedent(source) for path, source in files.items()})
        return Modules(python_of(version), site, tmp_path / "scratch", way).describe(names, **more)

    return make  # type: ignore[return-value]


def compare(stand: Make, before: str, after: str, *, asleep: bool = True) -> None:
    """Run a program on real modules and on stand-ins, which may be told to sleep until ``after``."""
    modules = stand({"m.py": KINDS}, ("m",))  # type: ignore[operator]
    before = START + textwrap.dedent(before) + "\nprint('before')\n"
    assert not modules.honest(before) or not asleep
    modules.honest(before + WAKE + textwrap.dedent(after))


def test_types_made_of_placeholders_as_keys(stand: Make) -> None:
    asked = """
        def kinds():
            found = [Optional[Plain], List[Plain], Union[Late, None, str], Type[Plain], (Plain, (Late, 1)),
                     frozenset([Plain, int]), Dict[str, List[Plain]]]
            if sys.version_info >= (3, 9):
                found += [list[Plain], dict[str, list[Optional[Plain]]], tuple[Plain, ...], type[Late]]
            if HAS_UNIONS:
                found += [Plain | int, None | Late, list[Plain] | None, Plain | Late, list[Plain | None]]
            return found
    """
    compare(
        stand,
        asked + "\n        TABLE = {kind: index for index, kind in enumerate(kinds())}\n        KNOWN = set(TABLE)\n",
        """
        print([TABLE.get(kind) for kind in kinds()], [kind in KNOWN for kind in kinds()])
        print([type(kind).__name__ for kind in TABLE], [repr(kind) for kind in TABLE if type(kind) is not frozenset])
        print(all(typing.get_args(kind) == typing.get_args(other) for kind, other in zip(TABLE, kinds()))
              if sys.version_info >= (3, 8) else [kind == other for kind, other in zip(TABLE, kinds())])
        print(list(TABLE)[0].__args__[0] is m.Plain, list(TABLE)[1].__args__[0] is m.Plain)
        """,
    )


def test_objects_whose_hash_depends_on_a_placeholder(stand: Make) -> None:
    compare(
        stand,
        """
        class Slots:
            __slots__ = ("cls", "name")
            def __init__(self, cls, name): self.cls, self.name = cls, name
            def __hash__(self): return hash((self.cls, self.name))
            def __eq__(self, other): return (self.cls, self.name) == (other.cls, other.name)
        @dataclasses.dataclass(frozen=True)
        class Fields:
            cls: type
            hint: object = Optional[Plain]
        class Row(typing.NamedTuple):
            cls: type
            number: int
        TABLE = {Slots(Plain, "x"): 1, Fields(Late): 2, Row(Plain, 1): 3, (Slots(Late, "y"), 1): 4,
                 frozenset([Fields(Plain)]): 5, frozenset([Fields(int, List[Dict[str, Optional[Late]]])]): 6}
        KNOWN = {Slots(Plain, "x"), Row(Late, 1)}
        ORDERED = collections.OrderedDict([(Slots(Plain, "a"), 1), (Plain, 2), ("z", 3)])
        ORDERED.move_to_end(Plain, last=False)
        LISTS = collections.defaultdict(list)
        LISTS[Plain].append(1)
        LISTS[Slots(Late, "l")].append(2)
        COUNTS = collections.Counter([Plain, Plain, Late])
        row = Row(Plain, 5)
        """,
        """
        print([TABLE.get(key) for key in (Slots(Plain, "x"), Fields(Late), Row(Plain, 1), (Slots(Late, "y"), 1))])
        print(TABLE.get(frozenset([Fields(int, List[Dict[str, Optional[Late]]])])))
        print(TABLE.get(frozenset([Fields(Plain)])), Slots(Plain, "x") in KNOWN, Row(Late, 1) in KNOWN, len(KNOWN))
        print(ORDERED[Slots(Plain, "a")], list(ORDERED.values()), LISTS[Plain], LISTS[Slots(Late, "l")], COUNTS[Plain])
        print(row.cls is m.Plain, type(row).__name__, dataclasses.fields(Fields)[1].default.__args__[0] is m.Plain)
        """,
    )


def test_built_in_objects_that_hold_a_placeholder(stand: Make) -> None:
    compare(
        stand,
        """
        part, more = functools.partial(Plain, x=3), functools.partial(print, Plain, end=Late)
        class Holder:
            static, bound = staticmethod(function), classmethod(function)
        by_value, by_key = weakref.WeakValueDictionary(x=Plain), weakref.WeakKeyDictionary()
        by_key[Plain] = 1
        known, reference = weakref.WeakSet([Late]), weakref.ref(Plain)
        @functools.lru_cache(maxsize=None)
        def cached(*kinds): return list(kinds)
        @functools.lru_cache(maxsize=2)
        def bounded(kind): return [kind]
        first = cached(Plain), cached((Plain, 1)), bounded(Plain), bounded(Late)
        space, proxy = types.SimpleNamespace(a=Plain, b=[(Plain,)]), types.MappingProxyType({Plain: 1, "late": Late})
        T = typing.TypeVar("T", bound=Plain)
        V = typing.TypeVar("V", Plain, Late)
        class Generic(typing.Generic[T]):
            def get(self, x: T) -> T: return x
        class OfChild(Generic[Child]): pass
        class Number(enum.Enum):
            A = (Plain, 1)
            B = Optional[Late]
        """,
        """
        print(part.func is m.Plain, part().x, more.args[0] is m.Plain, more.keywords["end"] is m.Late)
        print(vars(Holder)["static"].__func__ is m.function, vars(Holder)["bound"].__func__ is m.function)
        print(by_value["x"] is m.Plain, by_key[m.Plain], m.Late in known, reference() is m.Plain)
        print(cached(m.Plain) is first[0], cached((m.Plain, 1)) is first[1])
        print([bounded(kind)[0] is kind for kind in (m.Plain, m.Late, m.Child, m.Plain, m.Late)])
        print(space.a is m.Plain, space.b[0][0] is m.Plain, proxy[m.Plain], proxy["late"] is m.Late)
        print(T.__bound__ is m.Plain, V.__constraints__ == (m.Plain, m.Late), Generic.__parameters__ == (T,))
        print(Generic[Child] == OfChild.__orig_bases__[0], Generic[Child].__args__[0] is m.Child)
        print(Generic.get.__annotations__["x"] is T)
        print(Number((m.Plain, 1)), Number(Optional[m.Late]), Number.A.value[0] is m.Plain)
        """,
        asleep=False,  # a static method reads the documentation of its function
    )


def test_unions_of_placeholders(stand: Make) -> None:
    compare(
        stand,
        """
        if HAS_UNIONS:
            union, other = Plain | int, None | Late
            longer = union | str
            alias = list[Plain] | None
            def f(x: union, y: "Plain | None" = None, z: alias = None): pass
            print(isinstance(union, types.UnionType), typing.get_origin(union).__name__, len(typing.get_args(longer)))
            print(isinstance(3, union), isinstance("", union), issubclass(int, union), isinstance(None, other))
            print(union == int | Plain, hash(union) == hash(int | Plain), union == Union[Plain, int], union != longer)
            print(Union[Plain, int] == union, repr(union), repr(int | union | other), (Plain | Plain) is Plain)
            for wrong in (lambda: union | 3, lambda: union()):
                try:
                    print(wrong())
                except TypeError:
                    print("TypeError")
            table = {union: 1, (longer,): 2}
        """,
        """
        if HAS_UNIONS:
            print(type(union) is type(other) is type(f.__annotations__["x"]) is type(int | str))
            print(Optional[union] == Union[union, None], union.__parameters__, hasattr(union, "__origin__"))
            print((Plain | typing.TypeVar("T"))[int] == Plain | int, typing.get_type_hints(f)["x"].__args__[1])
            print(union.__args__[0] is m.Plain, alias.__args__[0].__args__[0] is m.Plain)
            print(longer == m.Plain | int | str, table[m.Plain | int], table[(m.Plain | int | str,)])
            print(pickle.loads(pickle.dumps(union)) == union, copy.deepcopy(union) == union, repr(union))
            print(typing.get_type_hints(f)["y"].__args__[0] is m.Plain)
            try:
                Plain | 3
            except TypeError as exc:
                print(exc)
        """,
    )


def test_dispatch_by_annotations(stand: Make) -> None:
    compare(
        stand,
        """
        @functools.singledispatch
        def tell(x): return "any"
        @tell.register
        def _(x: Plain): return "plain"
        if sys.version_info >= (3, 11):
            @tell.register
            def _(x: Late | bytes): return "late or bytes"
        print(tell(3), tell(""))
        """,
        "print(tell(m.Plain()), tell(m.Child()), tell(m.Late()), tell(b''), tell(3), m.Plain in tell.registry)\n",
        asleep=False,  # typing asks whether it is a generic class
    )


def test_variables_of_running_code(stand: Make) -> None:
    compare(
        stand,
        """
        def suspended():
            kept, listed = Plain, [Late]
            yield 1
            yield kept is m.Plain, listed[0] is m.Late, type(kept).__name__
        generator = suspended()
        next(generator)
        """,
        "print(next(generator))\n",
    )


def test_variables_of_the_code_that_wakes(stand: Make) -> None:
    modules = stand({"m.py": KINDS}, ("m",))  # type: ignore[operator]
    modules.honest(
        """
        import typing, m
        def run():
            from m import Plain, Late as Other
            row, hint = (Plain, 1), typing.Optional[Plain]
            def close(): return Other
            made = Plain.__new__(Plain)
            class Derived(Plain):
                def __init__(self): super().__init__(3)
            print(type(made) is Plain, row[0] is Plain, Plain is m.Plain, close() is m.Late, hint.__args__[0] is Plain)
            print(Derived().x, Derived.__mro__[1] is Plain, {Plain: 1}.get(type(made)))
        run()
        """
    )


def test_a_table_that_is_iterated_over_while_it_wakes_what_is_in_it(stand: Make) -> None:
    modules = stand({"m.py": KINDS}, ("m",))  # type: ignore[operator]
    modules.honest(
        START
        + textwrap.dedent(
            """
            TABLE = {"gone": 0, Plain: 1, "also": 0, Late: 2, "z": 3, Child: 4}
            del TABLE["gone"], TABLE["also"]
            made = [(kind().__class__.__name__, number) for kind, number in TABLE.items() if isinstance(kind, type)]
            print(made, TABLE.get(m.Plain), TABLE.get(m.Late), m.Child in TABLE, list(TABLE.values()))
            print(hash(Plain) == hash(m.Plain))
            """
        )
    )


def test_classes_in_patterns(stand: Make) -> None:
    modules = stand({"m.py": KINDS}, ("m",))  # type: ignore[operator]
    program = """
        import m
        def f(x):
            from m import Plain
            match x:
                case Plain(x=1): return 1
                case m.Late(): return 2
            return 3
        print(f(3), f(m.Plain()), f(m.Late()))
    """
    if modules.plain(program).code == 0:
        modules.honest(program)


@pytest.mark.parametrize("first", ["moved.cat", "moved.more", "moved.api"])
def test_a_class_that_says_it_is_of_its_package(stand: Make, first: str) -> None:
    """NumPy and pandas set ``__module__`` of their public classes so."""
    files = {
        "moved/__init__.py": "from moved.cat import Cat, meow\nfrom moved.more import Dog\nimport moved.api\n",
        "moved/cat.py": """
            class Cat:
                def __init__(self): self.x = 1
            def meow(): return "meow"
            Cat.__module__ = meow.__module__ = "moved"
        """,
        "moved/more.py": "from moved.cat import Cat\nclass Dog(Cat): pass\nDog.__module__ = 'moved'\n",
        "moved/api.py": "from moved.cat import Cat as Kitten, meow as say\nfrom moved.more import Dog\n",
    }
    groups = {"moved.cat": "moved.cat", "moved.more": "moved.more", "moved.api": "moved.api"}
    modules = stand(files, ("moved", "moved.api"), groups=groups)  # type: ignore[operator]
    del modules.tables["moved"]
    if modules.way == "layer":
        modules.way = "trial"  # where the package is real all the same
    modules.honest(
        f"""
        import sys, moved
        from moved import Cat, Dog, meow
        from moved.api import Kitten, say
        print(isinstance(3, Cat), issubclass(int, Dog), Kitten is Cat, say is meow, {{Cat: 1}}[Kitten])
        vars(sys.modules[{first!r}])
        print(isinstance(3, moved.Cat), issubclass(int, moved.Cat), isinstance(moved.Cat(), Kitten), meow(), say())
        print(issubclass(Dog, Cat), Dog.__mro__[1] is moved.Cat, moved.cat.Cat is moved.Cat is moved.more.Cat is Cat)
        print(moved.api.Kitten is moved.Cat is Kitten, moved.api.Dog is Dog, moved.meow is moved.cat.meow is say)
        print(type(moved.Cat()) is Cat, moved.Cat.__module__, Cat == moved.cat.Cat, hash(Cat) == hash(moved.cat.Cat))
        """
    )


@pytest.mark.parametrize("found", [r"c__main__\nPlain\n", r"cmoved\nCat\n"])
def test_a_class_that_a_pickle_finds_in_a_real_module(stand: Make, found: str) -> None:
    files = {
        "m.py": KINDS,
        "moved/__init__.py": "from moved.cat import Cat\n",
        "moved/cat.py": "class Cat: pass\nCat.__module__ = 'moved'\n",
    }
    modules = stand(files, ("m", "moved"), groups={"moved.cat": "moved.cat"})  # type: ignore[operator]
    del modules.tables["moved"]
    modules.way = "trial"
    if modules.python.endswith("3.7"):
        return  # it does not tell what it unpickles; the search does not replace such modules
    modules.honest(
        f"""
        import pickle
        from m import Plain
        from moved import Cat
        print(type(pickle.loads(b"\\x80\\x02{found})\\x81.")).__name__)
        print(type(pickle.loads(b"ccopy_reg\\n_reconstructor\\n({found}c__builtin__\\nobject\\nNtR.")).__name__)
        """
    )


def test_what_extension_modules_have_freed_stays_untouched(stand: Make) -> None:
    many = [f"name{number}" for number in range(300)]  # so many that all objects are looked through
    source = "".join(f"def {name}(): pass\n" for name in many)
    modules = stand({"m.py": source}, ("m",))  # type: ignore[operator]
    before = f"""
import asyncio, gc, m
from m import {", ".join(many)}
held = [{", ".join(many)}]
async def wait():
    for _ in range(3):
        future = asyncio.get_event_loop().create_future()
        future.get_loop().call_soon(future.set_result, 1)
        await future
loop = asyncio.new_event_loop()
loop.run_until_complete(wait())
print("before")
"""
    after = """
for _ in range(3):
    loop.run_until_complete(wait())
    gc.collect()
loop.close()
print([each.__name__ for each in held if each is not vars(m)[each.__name__]])
"""
    modules.honest(before + WAKE + after)
