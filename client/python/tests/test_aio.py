"""The asynchronous client: the same rules."""

import asyncio
import time

import numpy as np
import pytest
from conftest import slow_spec, spec, wide, xor

import backprop
import backprop.aio


def run(coroutine):
    return asyncio.run(asyncio.wait_for(coroutine, 120))


def with_client(server, work, **options):
    async def main():
        options.setdefault("retry", backprop.Retry(max_attempts=100))
        async with backprop.aio.Client(server.address, **options) as client:
            return await work(client)

    return run(main())


def test_everything_once(server, tmp_path):
    async def work(client):
        x, y = xor()
        model = await client.create_model(spec(optimizer=backprop.Adam(0.05)), "a")
        seen = []

        async def see(event):
            seen.append(event.sequence)

        summary = await client.train(model, x, y, iterations=500, on_event=see, progress="text")
        assert summary.metrics.accuracy > 0.95 and seen[-1] >= len(seen)
        assert (await client.step(model, x, y, expected_step=500)).step == 501
        batches = [(x[i:i + 50], y[i:i + 50]) for i in range(0, 200, 50)] * 20
        assert [r.step async for r in client.steps(model, batches)] == list(range(502, 582))
        gradients = await client.compute_gradients(model, x, y)
        assert (await client.apply_gradients(model, gradients)).step == 582
        assert (await client.predict(model, x)).classes.shape == (200,)
        assert (await client.evaluate(model, x, y)).metrics.accuracy > 0.9
        assert (await client.grad_check(model, x[:10], y[:10])).passed
        parameters = await client.get_parameters(model)
        assert await client.set_parameters(model, parameters) == 582
        await client.create_checkpoint(model, "one")
        assert [c.name async for c in client.list_checkpoints(model)] == [
            "models/a/checkpoints/one"]
        assert await client.restore_checkpoint(model, "one") == 582
        await client.delete_checkpoint(model, "one")
        sent = []
        made = await client.upload_dataset("d", x, y, chunk_rows=50, on_progress=sent.append)
        assert made.ready and sent == [50, 100, 150, 200]
        assert [d.name async for d in client.list_datasets()] == ["datasets/d"]
        await client.delete_dataset("d")
        content = await client.export_model(model)
        await client.export_model(model, tmp_path / "file")
        assert (tmp_path / "file").read_bytes() == content
        copy = await client.import_model(tmp_path / "file", "b")
        assert [m.name async for m in client.list_models()] == ["models/a", "models/b"]
        await client.delete_model(copy)
        assert await client.health() and (await client.server_status()).version
        with pytest.raises(backprop.NotFound):
            await client.get_model("b")
        with pytest.raises(backprop.InvalidArgument):
            await client.step(model, x, y[:-1])
        with pytest.raises(backprop.InvalidArgument):
            [r async for r in client.steps(model, [(x[:, :1], y)])]
        assert await client.create_backup(tmp_path / "backup") > 0
        async with backprop.aio.serve(tmp_path / "other") as other:
            assert await other.restore_backup(tmp_path / "backup") == (1, 0)

    with_client(server, work)


@pytest.mark.parametrize("how", ["break", "task", "exception", "cancel"])
def test_leaving_a_run_stops_it(server, how):
    async def work(client):
        x, y = wide()
        await client.create_model(slow_spec(), "a")
        run = client.start_training("a", x, y, iterations=10**6, report_every=10)

        async def follow():
            async for event in run:
                if event.sequence == 3:
                    if how == "break":
                        break
                    if how == "exception":
                        raise KeyError
                    if how == "cancel":
                        run.cancel()

        task = asyncio.ensure_future(follow())
        if how == "task":
            await asyncio.sleep(0.5)
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task
        elif how == "break":
            await task
        else:
            with pytest.raises(KeyError if how == "exception" else backprop.Cancelled):
                await task
        summary = await client.watch_training("a").wait()
        assert summary.stop_reason == "cancelled"

    with_client(server, work)


def test_kills(server):
    x, y = wide()
    batches = [(x[i:i + 64], y[i:i + 64]) for i in range(0, 512, 64)] * 10

    async def undisturbed(client):
        await client.create_model(slow_spec(), "r")
        await client.train("r", x, y, iterations=400, batch_size=64)
        [r async for r in client.steps("r", batches)]
        return (await client.get_parameters("r")).tensors

    expected = with_client(server, undisturbed)

    async def work(client):
        loop = asyncio.get_running_loop()
        await client.create_model(slow_spec(), "a")
        seen = []
        async for event in client.start_training("a", x, y, iterations=400, batch_size=64,
                                                 report_every=20):
            seen.append(event.sequence)
            if len(seen) == 5:
                await loop.run_in_executor(None, server.restart)
        assert event.summary.stop_reason == "completed" and seen == sorted(set(seen))
        made = []
        async for result in client.steps("a", batches):
            made.append(result.step)
            if len(made) == 20:
                await loop.run_in_executor(None, server.restart)
        assert made == list(range(401, 481))
        uploaded = await client.upload_dataset(
            "d", np.repeat(x, 20, 0), np.repeat(y, 20), chunk_rows=500,
            on_progress=lambda rows: server.restart() if rows == 4000 else None)
        assert uploaded.rows == len(x) * 20
        await loop.run_in_executor(None, server.kill)
        waiting = asyncio.ensure_future(client.get_model("a"))
        await asyncio.sleep(0.3)
        await loop.run_in_executor(None, server.start)
        assert (await waiting).step == 480
        return (await client.get_parameters("a")).tensors

    for name, array in with_client(server, work).items():
        np.testing.assert_array_equal(array, expected[name])


def test_deadlines_and_retries_end(server):
    async def work(client):
        server.freeze()
        start = time.monotonic()
        with pytest.raises(backprop.DeadlineExceeded):
            await client.health(timeout=0.5)
        assert time.monotonic() - start < 5
        server.thaw()
        server.kill()
        with pytest.raises(backprop.Unavailable):
            await client.health()

    with_client(server, work, retry=backprop.Retry(3, 0.01, 0.02))


def test_calls_run_side_by_side(server):
    async def work(client):
        x, y = xor()
        names = [f"m{i}" for i in range(20)]
        await asyncio.gather(*(client.create_model(spec(), name) for name in names))
        made = await asyncio.gather(*(client.train(name, x, y, iterations=100) for name in names))
        assert len({s.metrics.loss for s in made}) == 1

    with_client(server, work)
