"""Restored files are there for all processes that run on the layer, their children among them."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

    from .conftest import ColdLayer


def test_a_forked_child_and_its_parent_use_what_either_has_restored(
    layer_of: Callable[..., ColdLayer], cpython: str
) -> None:
    layer = layer_of(cpython, {"a.txt": "a", "b.txt": "b", "m.py": "x = 1\n"})
    layer.run(
        """
        assert open(R + "/a.txt").read() == "a" and os.listdir(PUT_BACK) != []
        child = os.fork()
        if not child:
            import m
            assert open(R + "/a.txt").read() + open(R + "/b.txt").read() == "ab" and m.x == 1
            os._exit(0)
        assert os.waitpid(child, 0)[1] == 0
        assert os.path.exists(PUT_BACK + "/b.txt") and open(R + "/b.txt").read() == "b"
        """
    )
    assert layer.restored() == {"a.txt", "b.txt", "m.py"}


def test_what_is_removed_meanwhile_is_restored_again(layer_of: Callable[..., ColdLayer], cpython: str) -> None:
    layer = layer_of(cpython, {"a.txt": "a", "b/c.txt": "c"})
    layer.run(
        """
        import shutil
        for remove in (lambda: os.unlink(PUT_BACK + "/b/c.txt"), lambda: shutil.rmtree(PUT_BACK)):
            child = os.fork()
            if not child:
                assert open(R + "/a.txt").read() + open(R + "/b/c.txt").read() == "ac"
                os._exit(0)
            assert os.waitpid(child, 0)[1] == 0
            remove()
            assert open(R + "/b/c.txt").read() + open(R + "/a.txt").read() == "ca"
        """
    )
    assert layer.restored() == {"a.txt", "b/c.txt"}


def test_an_open_file_outlives_its_folder(layer_of: Callable[..., ColdLayer], python: str) -> None:
    layer = layer_of(python, {"a.txt": "a" * 9})
    layer.run(
        """
        import shutil
        with open(R + "/a.txt") as file:
            shutil.rmtree(PUT_BACK)
            assert file.read() == "a" * 9
        """
    )


def test_workers_of_a_pool_leave_nothing_behind(layer_of: Callable[..., ColdLayer], cpython: str) -> None:
    layer = layer_of(cpython, {"a.txt": "a", "work.py": "def size(path):\n    return len(open(path).read())\n"})
    for method in ("fork", "spawn", "forkserver"):
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
