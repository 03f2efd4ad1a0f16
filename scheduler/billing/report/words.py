"""Every word of the usage statement, in English and simplified Chinese. No arithmetic, no layout."""

from __future__ import annotations

from scheduler.two_languages import LANGUAGES, Language, TwoLanguages

__all__ = ["LANGUAGES", "Language", "Words"]

_WORDS: dict[str, tuple[str, str]] = {
    "title": ("Usage statement {month}", "算力用量账单 {month}"),
    "title.tenant": ("Usage statement {month}, {tenant}", "算力用量账单 {month}（{tenant}）"),
    "generated": ("Generated {at}; all times in {zone}", "生成时间 {at}；所有时间均为 {zone} 时区"),
    "state.closed": ("CLOSED on {at} by {by}: these figures never change", "已结账（{at}，{by}）：本账单数据不再变动"),
    "state.over": ("NOT CLOSED YET: late news may still change these figures", "尚未结账：后续上报仍可能改变数据"),
    "state.open": ("OPEN MONTH: it is still running", "本月尚未结束：数据持续变动"),
    "state.to come": ("THIS MONTH IS STILL TO COME", "该月份尚未开始"),
    "broken": (
        "THE ENTRIES ARE NOT THOSE THAT THE MONTH WAS CLOSED WITH: do not rely on this page",
        "记录与结账时的记录不一致：请勿采信本页数据",
    ),
    "goes_on": (
        "{n} runs had not ended within the month. Their device time up to its end is counted here; their energy is "
        "told in the month in which they end.",
        "{n} 个运行在本月内尚未结束：截至月末的设备时间计入本月，能耗计入其结束的月份。",
    ),
    "apart": (
        "Real and simulated devices are never added to one another. What could not be read is named, and is no zero.",
        "真实设备与模拟设备的数据从不相加。未能读取的数据会注明，绝不按零计。",
    ),
    # -- tables
    "overview": ("All tenants", "租户汇总"),
    "tenant": ("Tenant", "租户"),
    "job": ("Job", "作业"),
    "name": ("Name", "名称"),
    "kind": ("Kind", "类型"),
    "kind.training": ("training", "训练"),
    "kind.inference": ("inference", "推理"),
    "kind.batch": ("batch", "批处理"),
    "kind.benchmark": ("benchmark", "基准测试"),
    "class": ("Class", "优先级"),
    "runs": ("Runs", "运行次数"),
    "device_s": ("Device-seconds", "设备·秒"),
    "device_h": ("Device-hours", "设备·小时"),
    "share_s": ("of it in shares", "其中共享份额"),
    "kwh": ("Energy, kWh", "能耗 kWh"),
    "metered": ("Metered device-s", "已计量 设备·秒"),
    "unmetered": ("Unmetered device-s", "未计量 设备·秒"),
    "pflops_h": ("PFlops-hours", "PFlops·小时"),
    "answered": ("Requests served", "已应答请求"),
    "end": ("End", "结束"),
    "end.seen": ("seen", "已确认"),
    "end.unseen": ("unseen", "未见"),
    "end.goes on": ("goes on", "仍在运行"),
    "total": ("Total", "合计"),
    "unread": ("not read", "未读取"),
    "unrated": ("no measured rate", "无实测速率"),
    "nothing": ("Nothing ran in this month.", "本月没有任何运行。"),
    "more": ("and {n} more, in usage.csv and usage.json", "另有 {n} 条，见 usage.csv 与 usage.json"),
    "services": ("Services", "服务"),
    "service": ("Service", "服务"),
    "requests": ("Requests that came", "收到的请求"),
    # -- simulated
    "watermark": ("SIMULATED", "模拟数据"),
    "simulated": ("On simulated devices", "模拟设备上的用量"),
    "simulated.means": (
        "No such card exists and nothing was computed. This counts towards no bill, no voucher and no goal.",
        "并不存在对应的真实加速卡，也没有执行任何运算。不计入账单、算力券及任何目标。",
    ),
    # -- rates
    "rates": ("Measured rates", "实测速率"),
    "rates.note": (
        "PFlops-hours are device-hours times the measured dense 16-bit rate of the model: the median of its devices in "
        "the run named here. A vendor's figure is never used.",
        "PFlops·小时 = 设备小时 × 该型号的实测稠密 16 位速率（取所列批次中该型号各设备的中位数），从不采用厂商标称值。",
    ),
    "rates.none": ("No model that was used has a measured rate.", "所用型号均无实测速率。"),
    "model": ("Model", "型号"),
    "model.unknown": ("model not known", "型号未知"),
    "rate": ("GFLOP/s of one device", "单设备 GFLOP/s"),
    "precision": ("Precision", "精度"),
    "measured_devices": ("Devices measured", "实测设备数"),
    "run": ("Run", "批次"),
    "at": ("Measured on", "测量日期"),
    "unrated.title": ("Device time without a measured rate", "无实测速率的设备时间"),
    # -- corrections
    "corrections": ("Corrections of closed months", "对已结账月份的更正"),
    "corrections.none": (
        "None: nothing came to be known that closed months say otherwise.",
        "无：没有与已结账月份不符的新情况。",
    ),
    "of_month": ("Of month", "所更正月份"),
    "run_of": ("Run", "运行"),
    "run_text": ("job {job}, attempt {attempt}, worker {worker}", "作业 {job}，第 {attempt} 次尝试，工作进程 {worker}"),
    "booked": ("As booked", "原记录"),
    "known": ("As known now", "现已知"),
    "corrected": ("with corrections", "含更正"),
    "booked_in": ("Booked in", "入账月份"),
    "difference": ("Difference, device-s", "差额 设备·秒"),
    "absent": ("nothing", "无"),
    "requests_text": ("{n} requests served", "已应答 {n} 个请求"),
    # -- vouchers
    "vouchers": ("Compute vouchers {year}", "算力券 {year} 年度"),
    "contract": ("Contract", "合同"),
    "executed": ("Executed amount, CNY", "合同实际执行额（元）"),
    "vertical": ("of it vertical models", "其中垂直模型训练"),
    "voucher": ("Voucher, CNY", "可申领算力券（元）"),
    "limited": ("Limited by", "受限于"),
    "limited.nothing": ("30% of the executed amount", "执行额的 30%"),
    "limited.cap": ("at most {cap} a tenant and year", "每租户每年不超过 {cap} 元"),
    "limited.vertical cap": ("at most {cap} with vertical models", "垂直模型训练不超过 {cap} 元"),
    "out_of_force": (
        "{tenant}: {cny} CNY of it lie outside the plan's time in force.",
        "{tenant}：其中 {cny} 元不在政策有效期内。",
    ),
    "left_out": ("Left out", "未计入"),
    "left.simulated": ("on simulated devices", "模拟设备"),
    "left.outside the period": ("outside the contract's period", "不在合同期内"),
    "left.no price": ("no price in the contract", "合同无此型号单价"),
    "left.no measured rate": ("no measured rate", "无实测速率"),
    "left.model not known": ("model not known", "型号未知"),
    "voucher.lines": ("What the amounts are made of", "金额明细"),
    "voucher.more": ("and {n} more, in vouchers.csv and usage.json", "另有 {n} 条，见 vouchers.csv 与 usage.json"),
    "voucher.open": ("Not closed yet, and may change: {months}", "尚未结账、可能变动的月份：{months}"),
    "voucher.chains": (
        "The names of the key industry chains are not entered in the rules: the contract's word was taken.",
        "规则文件尚未录入七大重点产业链名称：产业链以合同所写为准。",
    ),
    "from": ("From", "开始"),
    "to": ("To", "结束"),
    "price": ("Price, CNY", "单价（元）"),
    "amount": ("Amount, CNY", "金额（元）"),
    "chain": ("Chain", "产业链"),
    "per.device-hour": ("device-hour", "设备·小时"),
    "per.pflops-hour": ("PFlops-hour", "PFlops·小时"),
    "separator": (", ", "、"),
    # -- method
    "method": ("Method", "计量方法"),
    "method.text": (
        "A run is one process of a job on devices that it alone held, or held a share of. Its time is from its "
        "process's start to its end by its node's clock, in whole milliseconds; where nobody saw the end, up to the "
        "last moment at which it is known to have lived. Device-seconds are thousandths of devices times "
        "milliseconds: integers, split exactly at midnight between months, so that months add up to the whole. Energy "
        "is read from the devices' own "
        "counters between a run's start and end and stands in the month in which it ended; of device time that no "
        "reading covers nothing is assumed. Requests are those that a replica answered, by day of the report. A closed "
        "month never changes: what comes to be known later is a correction in the month that is open then.",
        "一次运行是作业的一个进程，独占设备或占有设备的一部分份额。其时间按所在节点的时钟，从进程开始到结束，以整毫秒计；"
        "无人见到结束的，计到最后确知其存活的时刻。设备·秒由设备的千分之份额乘以毫秒得出，全部为整数运算，"
        "在月界零点精确切分，各月之和等于总量。能耗取自设备自身的计数器在运行开始与结束之间的读数，记在运行结束的月份；"
        "没有读数覆盖的设备时间不作任何推算。请求数为副本已应答的请求，按上报日期计。已结账的月份不再变动，"
        "之后得知的情况作为更正记入当时未结账的月份。",
    ),
    "method.vouchers": (
        "Vouchers: amounts are exact fractions until the end. The executed amount is rounded to the fen once, half up; "
        "the voucher is rounded down to the fen, as it is at most the stated share. Ordinary compute brings at most "
        "{cap} CNY a tenant and year, all together at most {vertical} CNY where vertical models are trained. "
        "Rules: {source}",
        "算力券：金额在最后一步之前均为精确分数；执行额最后一次性四舍五入到分；算力券金额向下取到分，因为规定为“不超过”。"
        "普通算力每租户每年不超过 {cap} 元，含垂直模型训练时合计不超过 {vertical} 元。规则来源：{source}",
    ),
    "provenance": ("Provenance", "数据溯源"),
    "sha": ("SHA-256 of the entries and rates", "记录与速率的 SHA-256"),
    "command": ("Recomputed by", "重新计算的命令"),
    "entries": ("Entries", "记录数"),
    "version": ("Suanli version", "Suanli 版本"),
    "colon": (": ", "："),
    "line.wrote": ("wrote {path}", "已写入 {path}"),
}


class Words(TwoLanguages):
    """`words("total")` in one language."""

    def __init__(self, language: Language) -> None:
        super().__init__(_WORDS, language)
