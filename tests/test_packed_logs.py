"""Report logs that log rotation has compressed: read as they are, damaged ones named, in bounded memory."""

from __future__ import annotations

import bz2
import gzip
import json
import os
import tracemalloc

import pytest

from flexcore.report.reportlog import LINE_CHARS_MAX, ReportChain, read_report
from flexcore_host import packed
from flexcore_host.reportfile import ReportFile
from flexcore_testing import example_logs
from flexcore_tools.cli import main
from tests.test_switches import Writer, numbers


@pytest.fixture
def rotated(tmp_path):
    """A month of one server in three files, the older two compressed as logrotate does it; and the whole."""
    (_, whole, _) = example_logs.write(tmp_path, 28)
    chain, at = ReportChain(), 0
    texts: list[str] = []
    records = [json.loads(line) for line in whole.read_text().splitlines()]
    for cut in (len(records) // 3, 2 * len(records) // 3, len(records)):
        lines = []
        if at:
            end = chain.position
            lines.append(chain.line("start", 1, end.index, end.at, end.triad,
                                    {"server": "secondary", "prev": end.hash}))  # fmt: skip
        for record in records[at:cut]:
            rest = {name: value for name, value in record.items()
                    if name not in ("n", "kind", "term", "index", "at", "triad", "hash")}  # fmt: skip
            lines.append(chain.line(record["kind"], record["term"], record["index"], record["at"],
                                    record["triad"], rest))  # fmt: skip
        texts.append("".join(f"{line}\n" for line in lines))
        at = cut
    log = tmp_path / "report.log"
    log.write_text(texts[2])
    for number in (1, 2):
        with gzip.open(f"{log}.{number}.gz", "wt") as file:
            file.write(texts[2 - number])
    return log, whole, texts


def test_compressed_logs_are_one_log_with_the_others(rotated, capsys):
    log, whole, texts = rotated
    assert main(["reportlog", "verify", f"{log}*"]) == 0
    out = capsys.readouterr().out
    records = sum(text.count("\n") for text in texts)
    assert f"{log}.2.gz,{log}.1.gz,{log}: secondary, {records} records" in out
    assert main(["reportlog", "verify", f"{log}", f"{log}.2.gz"]) == 1
    assert "of the log are missing" in capsys.readouterr().out
    assert main(["reportlog", "merge", f"{log}*", "-o", f"{log.parent}/history"]) == 0
    assert "nothing is missing" in capsys.readouterr().out
    told = []
    for logs in ([f"{log}*"], [str(whole)]):
        assert main(["usage", *logs, "--json", "--timezone", "UTC"]) == 0
        told.append({name: value for name, value in json.loads(capsys.readouterr().out).items() if name != "records"})
    assert told[0] == told[1]


def half(data: bytes) -> bytes:
    return data[: len(data) // 2]


def turned(data: bytes) -> bytes:
    at = len(data) // 2
    return data[:at] + bytes([255 - data[at]]) + data[at + 1 :]


@pytest.mark.parametrize(
    ("hurt", "words"),
    [
        (half, "the compressed file was cut off here"), (turned, ""), (lambda data: data[:9], "cut off here"),
        (lambda data: data + b"rubbish", "the compressed file is damaged here"),
    ],
)  # fmt: skip
def test_a_compressed_log_that_is_damaged_is_named(rotated, capsys, hurt, words):
    log, _, _ = rotated
    path = log.with_name("report.log.2.gz")
    path.write_bytes(hurt(path.read_bytes()))
    assert main(["reportlog", "verify", f"{log}*"]) == 1
    out = capsys.readouterr().out
    assert f"{path}:" in out
    assert words in out
    assert "Traceback" not in out
    assert main(["usage", f"{log}*"]) == 1
    told = capsys.readouterr()
    assert f"flexcore usage: {path}:" in told.err
    assert told.out == ""


def test_what_is_compressed_otherwise_says_what_to_do(tmp_path, capsys):
    path = tmp_path / "report.log.1.bz2"
    path.write_bytes(bz2.compress(b"x"))
    for words in (["reportlog", "verify"], ["reportlog", "merge"], ["usage"]):
        assert main([*words, str(path)]) == 1
        assert f"{path}: compressed, and only gzip is read here: bunzip2 it first" in capsys.readouterr().err


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="no such thing there")
def test_a_pipe_is_told_before_it_is_waited_for(tmp_path, capsys):
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    for words in (["reportlog", "verify"], ["reportlog", "merge"], ["usage"]):
        assert main([*words, str(pipe)]) == 1
        assert f"{pipe}: a pipe or a device" in capsys.readouterr().err


def test_neither_a_bomb_nor_a_line_without_end_takes_memory(tmp_path):
    """64 MiB of one line, a hundredth of that compressed; and the line behind it is read."""
    path = tmp_path / "report.log.1.gz"
    chain = ReportChain()
    start = chain.line("start", 0, 0, 1.0, "", {"server": "primary", "prev": ""})
    with gzip.open(path, "wb", compresslevel=1) as file:
        file.write(f"{start}\n".encode())
        for _ in range(64):
            file.write(b"x" * (1 << 20))
        file.write(f"\n{chain.line('stop', 0, 0, 1.0, '', {})}\n".encode())
    assert path.stat().st_size < 1 << 20
    tracemalloc.start()
    try:
        lines = list(packed.lines(str(path)))
        first, tail = packed.ends(str(path))
        _, most = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert [len(line) > LINE_CHARS_MAX for line in lines] == [False, True, False]
    assert first == f"{start}\n".encode()
    assert tail.endswith(b"}\n")
    assert most < 12 << 20
    (problem,) = read_report([("x", lines)]).problems
    assert problem.line == 2


def test_a_server_that_was_down_at_a_compressing_rotation_goes_on_with_the_chain(tmp_path):
    log = tmp_path / "report.log"
    writer = Writer(f"+{log}")
    writer.say("out")
    writer.file.close()
    for name in ("report.log.1.gz", "report.log.2.gz"):
        with gzip.open(tmp_path / name, "wb") as file:
            file.write(log.read_bytes() if "1" in name else b"{}\n")
    (tmp_path / "report.log.1.gz").touch()
    log.unlink()
    log.touch()  # logrotate's create
    if hasattr(os, "mkfifo"):
        os.mkfifo(tmp_path / "report.log.0")  # newest of all, and nobody ever writes into it
    again = Writer(f"+{log}")
    again.file.close()
    assert again.file.position.n == 2
    assert numbers(log) == [3]
    damaged = tmp_path / "report.log.1.gz"
    damaged.write_bytes(damaged.read_bytes()[:12])
    log.unlink()
    anew = ReportFile(f"+{log}")  # a damaged one does not keep the server from starting
    assert anew.position.n == 0
    anew.close()
