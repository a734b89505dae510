"""The caller's end: pieces in order, one outcome, whoever waits and however often."""

import asyncio
import threading

import pytest

from edgesdk.decoding.completion import Chunk, Completion
from edgesdk.engine.generation import Generation
from edgesdk.errors import DeviceError


def completion(text):
    return Completion(text, (1,), "stop", 1, 1, 1.0, 1.0, None)


def make(samples=1):
    cancelled = []
    return Generation(samples, lambda: cancelled.append(True), lambda index: index), cancelled


def test_pieces_come_once_and_the_result_stays():
    generation, _ = make()
    generation.put(Chunk("a"))
    assert not generation.done
    with pytest.raises(TimeoutError, match=r"after 0\.01 s"):
        generation.result(0.01)
    generation.put(Chunk("b", completion("ab")))
    assert [chunk.text for chunk in generation] == ["a", "b"]
    assert list(generation) == []
    assert generation.done
    assert generation.result().text == generation.result(0).text == "ab"


def test_an_error_comes_after_the_pieces_before_it():
    generation, _ = make()
    generation.put(Chunk("a"))
    generation.fail(DeviceError("gone"))
    generation.fail(DeviceError("again"))

    async def waited():
        return await generation

    assert next(generation).text == "a"
    for read in (lambda: next(generation), generation.result, lambda: asyncio.run(waited())):
        with pytest.raises(DeviceError, match="gone"):
            read()


def test_several_samples_end_one_by_one():
    generation, _ = make(2)
    generation.put(Chunk("x", completion("x"), 1))
    assert not generation.done
    generation.put(Chunk("y", completion("y"), 0))
    assert [answer.text for answer in generation.results()] == ["y", "x"]
    assert generation.all_metrics == (0, 1)


def test_cancelling_does_nothing_after_the_end():
    generation, cancelled = make()
    with generation:
        pass
    assert len(cancelled) == 1
    generation.put(Chunk("", completion("")))
    with generation:
        pass
    generation.cancel()
    assert len(cancelled) == 1


def test_threads_and_tasks_are_woken():
    async def main():
        generation, _ = make()
        found = []
        reader = threading.Thread(target=lambda: found.append(generation.result(10).text))
        reader.start()

        async def read():
            return [chunk.text async for chunk in generation]

        async def wait():
            return (await generation).text

        tasks = [asyncio.create_task(read()), asyncio.create_task(wait()), asyncio.create_task(wait())]
        await asyncio.sleep(0.01)

        def write():
            generation.put(Chunk("a"))
            generation.put(Chunk("b", completion("ab")))

        writer = threading.Thread(target=write)
        writer.start()
        assert await asyncio.wait_for(asyncio.gather(*tasks), 10) == [["a", "b"], "ab", "ab"]
        writer.join()
        reader.join()
        assert found == ["ab"]

    asyncio.run(main())


def test_a_cancelled_task_cancels_the_request():
    async def main():
        generation, cancelled = make()
        task = asyncio.ensure_future(generation)
        await asyncio.sleep(0.01)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert cancelled == [True]

    asyncio.run(main())


def test_a_loop_that_is_gone_harms_nobody():
    generation, _ = make()

    async def give_up():
        with pytest.raises(asyncio.TimeoutError):
            await asyncio.wait_for(anext(generation), 0.01)

    asyncio.run(give_up())
    generation.put(Chunk("a", completion("a")))
    assert generation.result(0).text == "a"
