"""What the CSV files say, and which file, line and column is named where they cannot be accepted."""

from __future__ import annotations

from pathlib import Path

import pytest

from scheduler.core.packing.shapes import Shape
from scheduler.errors import BadInput
from scheduler.simulation.openb import OpenbNode, OpenbPod, read_nodes, read_pods

MIB = 2**20
NODES = "sn,cpu_milli,memory_mib,gpu,model\n"
PODS = "name,cpu_milli,memory_mib,num_gpu,gpu_milli,gpu_spec\n"


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "given.csv"


def test_nodes(file: Path) -> None:
    file.write_text(NODES + "n0,64000,262144,2,P100\nn1,8000,1024,0,\n")
    assert read_nodes(file) == (
        OpenbNode("n0", 64000, 262144 * MIB, 2, "P100"),
        OpenbNode("n1", 8000, 1024 * MIB, 0, ""),
    )


def test_pods(file: Path) -> None:
    file.write_text(PODS + "p0,6000,12,1,460,T4|P100\np1,8000,0,8,1000,\np2,500,1,0,0,T4\np3,0,0,1,1000, G2 \n")
    assert read_pods(file) == (
        OpenbPod("p0", Shape(6000, 1, 460, frozenset({"T4", "P100"}), 12 * MIB)),
        OpenbPod("p1", Shape(8000, 8, 1000)),
        OpenbPod("p2", Shape(500, memory_bytes=MIB)),  # without a device no model matters
        OpenbPod("p3", Shape(0, 1, 1000, frozenset({"G2"}))),
    )


def test_columns_after_gpu_milli_may_be_missing_or_more_and_stand_in_any_order(file: Path) -> None:
    file.write_text("qos,num_gpu,name,gpu_milli,memory_mib,cpu_milli\nLS,1,p0,500,0,1000\n\nBE,2,p1,1000,0,0\n")
    assert [pod.asks for pod in read_pods(file)] == [Shape(1000, 1, 500), Shape(0, 2, 1000)]


def test_marks_of_other_programs_do_no_harm(file: Path) -> None:
    file.write_bytes(b"\xef\xbb\xbf" + PODS.replace("\n", "\r\n").encode() + b'"p0",6000.0,12,1.0,460,\r\n')
    assert read_pods(file)[0].asks == Shape(6000, 1, 460, None, 12 * MIB)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "line 1: there is no column name; needed: name,cpu_milli,memory_mib,num_gpu,gpu_milli"),
        ("name,cpu_milli,memory_mib,num_gpu\np,1,1,1\n", "line 1: there is no column gpu_milli"),
        (PODS + "p0,1000,0,1,1000,\np1,much,0,1,1000,\n", "line 3, column cpu_milli: 'much' is not a whole number"),
        (PODS + "p0,1.5,0,1,1000,\n", "line 2, column cpu_milli: '1.5' is not a whole number"),
        (PODS + "p0,1000,-1,1,1000,\n", "line 2, column memory_mib: -1 is not between 0 and"),
        (PODS + "p0,1000,0,1,1001,\n", "line 2, column gpu_milli: 1001 is not between 0 and 1000"),
        (PODS + "p0,1000,0,2,500,\n", "line 2, column gpu_milli: 500 of each of 2 devices"),
        (PODS + "p0,1000,0,1,0,\n", "line 2, column gpu_milli: 0 of each of 1 devices"),
        (PODS + "p0,1000,0,,1000,\n", "line 2, column num_gpu: empty"),
        (PODS + ",1000,0,1,1000,\n", "line 2, column name: empty"),
        (PODS + "p0,1000\n", "line 2, column num_gpu: empty"),
        (PODS + "p0,1000,0,1,1000,,,\n", "line 2: 8 cells under 6 titles"),
        (PODS + 'p0,1000,0,1,1000,"T4\n', "line 2: unexpected end of data"),
        (PODS + "p0,1000,0,0,0,\n", "no pod asks for a device"),
        (PODS, "no pod asks for a device"),
    ],
)
def test_a_bad_pod_file_is_named_with_line_and_column(file: Path, text: str, said: str) -> None:
    file.write_text(text)
    with pytest.raises(BadInput) as caught:
        read_pods(file)
    assert str(file) in caught.value.message
    assert said in caught.value.message


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (NODES + "n0,1000,0,0,\n", "no node has a device"),
        (NODES + "n0,1000,0,9999,T4\n", "line 2, column gpu: 9999 is not between 0 and 1024"),
        ("sn,cpu_milli,memory_mib,gpu\nn0,1,1,1\n", "line 1: there is no column model"),
    ],
)
def test_a_bad_node_file_is_named_with_line_and_column(file: Path, text: str, said: str) -> None:
    file.write_text(text)
    with pytest.raises(BadInput, match=r"given\.csv") as caught:
        read_nodes(file)
    assert said in caught.value.message


def test_a_file_that_is_no_text_or_not_there_is_said_so(file: Path) -> None:
    with pytest.raises(BadInput, match=r"given\.csv: No such file"):
        read_nodes(file)
    file.write_bytes(b"\x1f\x8b\xff\xfe")
    with pytest.raises(BadInput, match="not a CSV file in UTF-8"):
        read_nodes(file)
