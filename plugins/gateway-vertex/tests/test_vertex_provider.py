"""The provider against the simulated project: a batch from its spool to its results."""

from __future__ import annotations

from vertex_lab import BUCKET, MARKER, MODEL, Lab, chat, text_of

from gateway import RemoteState


async def test_a_batch_walks_from_its_spool_to_its_results(lab: Lab) -> None:
    """Each line of a batch comes back under its own name with the answer to its own question."""
    batch = await lab.uploaded(*(chat(f"question {n}") for n in range(5)))
    remote = await lab.provider.submit(batch)
    lab.clock.jump(1_000)
    ended = await lab.provider.poll(remote)
    results = await lab.results(ended)

    assert batch.file_id == f"gs://{BUCKET}/in/here/{MARKER}/input.jsonl"
    assert remote.state is RemoteState.RUNNING
    assert (ended.state, ended.total, ended.done) == (RemoteState.ENDED, 5, 5)
    assert [result.line_id for result in results] == [f"{MARKER}-{n}" for n in range(5)]
    assert all(f"question {n} " in text_of(result) for n, result in enumerate(results))
    assert {result.body["model"] for result in results if result.body} == {MODEL}
