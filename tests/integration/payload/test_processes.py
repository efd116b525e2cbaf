"""Restored files belong to the process that restored them."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

    from .conftest import ColdLayer


def test_a_forked_child_uses_what_its_parent_restored(layer_of: Callable[..., ColdLayer], cpython: str) -> None:
    layer = layer_of(cpython, {"a.txt": "a", "b.txt": "b", "m.py": "x = 1\n"})
    layer.run(
        """
        temp = os.environ["TMPDIR"]
        assert open(R + "/a.txt").read() == "a"
        before = os.listdir(temp)
        child = os.fork()
        if not child:
            import m
            assert open(R + "/a.txt").read() + open(R + "/b.txt").read() == "ab" and m.x == 1
            sys.exit(0 if os.listdir(temp) == before else 9)
        assert os.waitpid(child, 0)[1] == 0
        assert os.listdir(temp) == before and open(R + "/b.txt").read() == "b"
        """
    )


def test_a_child_makes_its_own_folder_when_there_is_none(layer_of: Callable[..., ColdLayer], cpython: str) -> None:
    layer = layer_of(cpython, {"a.txt": "a", "b.txt": "b"})
    layer.run(
        """
        import shutil
        temp = os.environ["TMPDIR"]
        child = os.fork()
        if not child:
            assert open(R + "/a.txt").read() == "a"
            sys.exit(len(os.listdir(temp)) != 1)
        assert os.waitpid(child, 0)[1] == 0 and os.listdir(temp) == []
        open(R + "/a.txt").close()
        shutil.rmtree(temp + "/" + os.listdir(temp)[0])
        assert open(R + "/a.txt").read() == "a"
        """
    )


def test_workers_of_a_pool_leave_nothing_behind(layer_of: Callable[..., ColdLayer], cpython: str) -> None:
    layer = layer_of(cpython, {"a.txt": "a", "work.py": "def size(path):\n    return len(open(path).read())\n"})
    for method in ("fork", "spawn"):
        layer.run(
            f"""
            import multiprocessing
            if __name__ == "__main__":
                import work
                context = multiprocessing.get_context({method!r})
                pool = context.Pool(3)
                assert pool.map(work.size, [R + "/a.txt"] * 9, 1) == [1] * 9
                pool.close()
                pool.join()
            """
        )


def test_exit_functions_of_the_program_still_find_cold_files(layer_of: Callable[..., ColdLayer], cpython: str) -> None:
    layer = layer_of(cpython, {"a.txt": "a", "late.py": "x = open(R + '/a.txt').read()\n"})
    out = layer.run(
        """
        import atexit, builtins
        builtins.R = R
        def end():
            import late
            print(late.x)
        atexit.register(end)
        open(R + "/a.txt").close()
        """
    )
    assert out == "a\n"
