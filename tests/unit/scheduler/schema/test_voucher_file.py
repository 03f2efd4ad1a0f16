"""Contract files and the rules of vouchers: what is wrong with one is said with file, line and field."""

from __future__ import annotations

from decimal import Decimal
from fractions import Fraction
from pathlib import Path

import pytest

import configs
from scheduler.billing.vouchers import Rules
from scheduler.errors import BadInput
from scheduler.schema.voucher_file import load_contracts, load_rules

ZONE = "Asia/Shanghai"
CONFIGS = Path(next(iter(configs.__path__)))
GOOD = """\
tenant: magnet-factory
contract: C-1
period: {from: 2026-04-01, until: 2027-03-31}
prices:
  - {model: H100 SXM, per: device-hour, cny: 12.50, source: "3.2"}
  - {per: pflops-hour, cny: "18", source: "3.3"}
vertical_training:
  - {chain: magnetic-materials, names: ["coercivity*"], source: annex 2}
"""


@pytest.fixture
def rules() -> Rules:
    return load_rules(CONFIGS / "vouchers.yaml", ZONE)


def write(directory: Path, text: str, name: str = "c.yaml") -> Path:
    path = directory / name
    path.write_text(text)
    return path


def test_the_rules_as_they_are_shipped(rules: Rules) -> None:
    assert (rules.share, rules.cap, rules.vertical_cap) == (Fraction(3, 10), 500_000, 1_000_000)
    assert "2026-01-15" in rules.source
    assert rules.from_ms == 1_773_590_400_000  # 2026-03-16 00:00 in Dongyang
    assert rules.until_ms == 1_868_284_800_000  # the end of 2029-03-15 there


def test_the_example_can_be_read(rules: Rules) -> None:
    (contract,) = load_contracts([CONFIGS / "contracts" / "example.yaml"], rules, ZONE)
    assert contract.tenant == "magnet-factory"


def test_a_contract(rules: Rules, tmp_path: Path) -> None:
    path = write(tmp_path, GOOD)
    (contract,) = load_contracts([path], rules, ZONE)
    assert contract.until_ms - contract.from_ms == 365 * 86_400_000
    assert [(price.model, price.per, price.cny, price.where) for price in contract.prices] == [
        ("H100 SXM", "device-hour", Decimal("12.5"), f"{path}:5"),
        (None, "pflops-hour", Decimal(18), f"{path}:6"),
    ]
    (vertical,) = contract.verticals
    assert (vertical.chain, vertical.kinds, vertical.where) == ("magnetic-materials", ("training",), f"{path}:8")


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        ("tenant: magnet-factory\n", "", ":1: tenant: required, and not given"),
        ("tenant: magnet-factory", "tenant: Magnet Factory", ":1: tenant: expected a name"),
        ("until: 2027-03-31", "until: 2026-03-31", ":3: period.until: expected a day not before period.from"),
        ("until: 2027-03-31", "until: 2027-02-30", ":3: period.until: expected a day"),
        ("2026-04-01", "1 April", ":3: period.from: expected a day"),
        ("cny: 12.50", "cny: -1", ":5: prices[0].cny: expected CNY"),
        ("cny: 12.50", "cny: 0", ":5: prices[0].cny: expected CNY"),
        ("cny: 12.50", "cny: 0.0000001", ":5: prices[0].cny: expected CNY"),
        ("cny: 12.50", "cny: .inf", ":5: prices[0].cny: expected CNY"),
        ("cny: 12.50", "cny: twelve", ":5: prices[0].cny: expected CNY"),
        ('cny: "18"', 'cny: "1e3"', ":6: prices[1].cny: expected CNY"),
        ("per: device-hour", "per: hour", ":5: prices[0].per: expected one of device-hour, pflops-hour"),
        (', source: "3.2"', "", ":5: prices[0].source: required, and not given"),
        ("{per: pflops", "{model: H100 SXM, per: pflops", ":6: prices[1].model: H100 SXM: has a price already"),
        ('names: ["coercivity*"], ', "", ":8: vertical_training[0]: expected jobs or names"),
        ("names: [", "kinds: [train], names: [", ":8: vertical_training[0].kinds[0]: expected one of training"),
        ("names: [", "jobs: [seven], names: [", ":8: vertical_training[0].jobs[0]: expected a job's id"),
        ("contract: C-1", "contrat: C-1", ":2: contrat: unknown field"),
        ("tenant: magnet-factory", "tenant: magnet-factory\ntenant: x", ":2: tenant"),
        ("prices:", "prices: []\nx:", ":4: prices"),
    ],
)
def test_what_is_wrong_with_a_contract(rules: Rules, tmp_path: Path, old: str, new: str, said: str) -> None:
    assert old in GOOD
    path = write(tmp_path, GOOD.replace(old, new, 1))
    with pytest.raises(BadInput) as refused:
        load_contracts([path], rules, ZONE)
    assert f"{path}{said}" in refused.value.message, refused.value.message


def test_a_chain_that_is_none_of_the_seven(rules: Rules, tmp_path: Path) -> None:
    shipped = (CONFIGS / "vouchers.yaml").read_text()
    chosen = write(tmp_path, shipped.replace("key_chains: []", "key_chains: [magnetic-material, film]"), "rules.yaml")
    path = write(tmp_path, GOOD)
    with pytest.raises(BadInput, match=r"8: vertical_training\[0\].chain: .*did you mean magnetic-material\?"):
        load_contracts([path], load_rules(chosen, ZONE), ZONE)


def test_two_files_that_would_count_a_run_twice(rules: Rules, tmp_path: Path) -> None:
    first = write(tmp_path, GOOD)
    other = write(tmp_path, GOOD.replace("C-1", "C-2").replace("2026-04-01", "2027-03-31"), "d.yaml")
    with pytest.raises(BadInput, match=r"d\.yaml: period: overlaps that of .*c\.yaml"):
        load_contracts([first, other], rules, ZONE)
    later = GOOD.replace("2026-04-01", "2027-04-01").replace("until: 2027-03-31", "until: 2028-03-31")
    with pytest.raises(BadInput, match="number of two files"):
        load_contracts([first, write(tmp_path, later, "e.yaml")], rules, ZONE)
    assert len(load_contracts([first, write(tmp_path, later.replace("C-1", "C-2"), "e.yaml")], rules, ZONE)) == 2


def test_all_that_is_wrong_is_said_at_once(rules: Rules, tmp_path: Path) -> None:
    bad = [write(tmp_path, "tenant: x\n", "a.yaml"), write(tmp_path, "", "b.yaml")]
    with pytest.raises(BadInput, match=r"(?s)b\.yaml.*says nothing"):
        load_contracts(bad[1:], rules, ZONE)
    with pytest.raises(BadInput, match=r"(?s)a\.yaml:1: contract: required.*a\.yaml:1: prices: required"):
        load_contracts(bad[:1], rules, ZONE)
    with pytest.raises(BadInput, match="no such file"):
        load_contracts([tmp_path / "none.yaml"], rules, ZONE)


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        ("percent_of_executed: 30", "percent_of_executed: 130", "percent_of_executed: expected a number of per cent"),
        ("max_cny: 500000", "max_cny: 2000000", "max_cny_vertical: expected at least max_cny"),
        ("until: 2029-03-15", "until: 2025-03-15", "until: expected a day not before from"),
        ("key_chains: []", "key_chains: [Magnets]", "key_chains[0]: expected a name"),
    ],
)
def test_what_is_wrong_with_rules(tmp_path: Path, old: str, new: str, said: str) -> None:
    text = (CONFIGS / "vouchers.yaml").read_text()
    assert old in text
    path = write(tmp_path, text.replace(old, new, 1))
    with pytest.raises(BadInput) as refused:
        load_rules(path, ZONE)
    assert said in refused.value.message
