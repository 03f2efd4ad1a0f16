"""Every word of the capacity report, in English and simplified Chinese. No arithmetic, no layout."""

from __future__ import annotations

from typing import Literal

Language = Literal["en", "zh"]
LANGUAGES: tuple[Language, ...] = ("en", "zh")

_WORDS: dict[str, tuple[str, str]] = {
    # -- the page
    "title": ("Achieved compute capacity", "算力达成情况报告"),
    "generated": ("Generated {at} on {host}", "生成时间 {at}，主机 {host}"),
    "label": ("Window", "测试窗口"),
    "label.smoke": ("SMOKE RUN, under 600 s: not a proof of capacity", "冒烟测试（不足 600 秒）：不能作为算力证明"),
    "label.nightly": ("Nightly window", "夜间测试窗口"),
    "label.acceptance": ("Acceptance window", "验收测试窗口"),
    "label.none": ("Nothing was measured", "尚无实测结果"),
    "short.smoke": ("smoke", "冒烟测试"),
    "short.nightly": ("nightly", "夜间测试"),
    "short.acceptance": ("acceptance", "验收测试"),
    "inventory.service": ("Inventory: as the running service reports it.", "设备清单：取自正在运行的服务。"),
    "inventory.kept": (
        "Inventory: no service answered; this is the one kept on {at}.",
        "设备清单：服务未应答，采用 {at} 保存的清单。",
    ),
    "apart": (
        "Goals overlap and are never added to one another. Nominal, measured, extrapolated and simulated figures are "
        "different evidence and are never added either.",
        "各项目标之间有重叠，从不相加；标称、实测、外推、模拟属于不同性质的数据，同样从不相加。",
    ),
    # -- evidence
    "nominal": ("Nominal", "标称"),
    "measured": ("Measured", "实测"),
    "extrapolated": ("Extrapolated", "外推"),
    "simulated": ("Simulated", "模拟"),
    "watermark": ("SIMULATED", "模拟数据"),
    "nominal.means": ("vendors' dense peaks of installed real cards", "已安装真实加速卡的厂商稠密峰值之和"),
    "measured.means": ("verified inside one shared window, on accelerators", "加速卡在同一窗口内完成并通过校验"),
    "extrapolated.means": ("cards not run, at the median of equal cards", "未参测的卡，按同型号实测中位数推算"),
    "simulated.means": (
        "Made up by simulated devices. No product was computed, no card exists. Counts for nothing.",
        "由模拟设备生成：没有执行任何运算，也没有对应的真实加速卡，不计入任何目标。",
    ),
    "simulated.box": ("Simulated, kept apart", "模拟数据，单独列示"),
    "simulated.figure": ("{pflops} PFlops (simulated)", "{pflops} PFlops（模拟）"),
    "simulated.devices": (
        "{devices} of {installed} simulated devices answered",
        "{installed} 个模拟设备中 {devices} 个有结果",
    ),
    # -- a goal
    "goal": ("Goal", "目标"),
    "goals": ("Goals", "目标完成情况"),
    "goal.line": ("{pflops} PFlops, {precision}, due {due}", "{pflops} PFlops，{precision}，期限 {due}"),
    "site": ("Site", "站点"),
    "due": ("Due", "期限"),
    "precision": ("Precision", "精度"),
    "precision.dense 16-bit": ("dense 16-bit", "稠密 16 位"),
    "achieved": ("PFlops measured of {goal}", "PFlops 实测，目标 {goal}"),
    "missing": ("Missing to the goal: {pflops} PFlops", "距目标还差 {pflops} PFlops"),
    "reached": ("The goal is reached in this window.", "在本窗口内已达到目标。"),
    "devices": ("Devices", "设备数"),
    "cards": ("{n} cards", "{n} 张卡"),
    "of_goal": ("of goal", "占目标"),
    "evidence": ("Evidence", "数据性质"),
    "meaning": ("What it is", "含义"),
    "availability": ("Availability", "可用率"),
    "availability.means": ("nominal of verified cards / nominal installed", "通过校验的卡的标称 / 已安装标称"),
    "efficiency": ("Efficiency", "效率"),
    "efficiency.means": ("measured / nominal of verified cards", "实测 / 通过校验的卡的标称"),
    "coverage": ("Coverage", "覆盖率"),
    "coverage.means": ("cards run / cards owned", "参测卡数 / 拥有卡数"),
    "lock": ("R_lock", "同步算力 R_lock"),
    "lock.means": ("cards x slowest verified card, in PFlops", "卡数 × 最慢的一张已校验卡（PFlops）"),
    "energy": ("Energy", "能耗"),
    "energy.means": ("joules over the same window", "同一窗口内的焦耳数"),
    "undefined": ("undefined", "无定义"),
    "unread": ("not read", "未读取"),
    "why.no_cards": ("no accelerator is installed here", "此处没有安装加速卡"),
    "why.no_rated_cards": ("no installed card has a known vendor peak", "已安装的卡均无已知的厂商峰值"),
    "why.no_window": ("no card has been run in a window yet", "尚无加速卡在测试窗口内运行"),
    "why.nothing_verified": ("no card passed verification", "没有加速卡通过校验"),
    "why.no_rated_card_verified": ("no card with a known vendor peak was verified", "通过校验的卡均无已知的厂商峰值"),
    "why.energy_not_read": ("no energy counter was read in this window", "本窗口内未读取能耗计数"),
    "window.line": (
        "Window of {window} s ({label}) from {at}, {precision}, run {run}; {samples} products checked, one corrupt "
        "product is noticed with probability {chance}",
        "{label}窗口 {window} 秒，开始于 {at}，精度 {precision}，批次 {run}；抽检 {samples} 次乘积，"
        "单次错误乘积被发现的概率为 {chance}",
    ),
    # -- tables
    "models": ("Cards by model", "按型号统计"),
    "model": ("Model", "型号"),
    "vendor": ("Vendor", "厂商"),
    "installed": ("Installed", "已安装"),
    "verified": ("Verified", "通过校验"),
    "peak": ("Peak, TFlops", "峰值 TFlops"),
    "unknown": ("not known", "未知"),
    "p5": ("p5", "p5"),
    "p50": ("p50", "p50"),
    "slowest": ("Slowest", "最慢"),
    "exclusions": ("Not counted, and why", "未计入的卡及原因"),
    "exclusions.more": ("and {n} more, in capacity.json", "另有 {n} 张，见 capacity.json"),
    "device": ("Device", "设备"),
    "node": ("Node", "节点"),
    "reason": ("Reason", "原因"),
    "last": ("Last verified", "上次通过校验"),
    "never": ("never", "从未"),
    "excluded.never_run": ("never run", "从未参测"),
    "excluded.not_in_window": ("not run in this window", "本窗口未参测"),
    "excluded.late_start": ("started late", "启动过晚"),
    "excluded.zero_work": ("finished no verified work", "没有完成任何通过校验的运算"),
    "excluded.not_finite": ("results held NaN or Inf", "结果含 NaN 或 Inf"),
    "excluded.wrong_product": ("a product was wrong", "乘积错误"),
    "excluded.interrupted": ("interrupted", "测试中断"),
    "excluded.device_error": ("the device or its library failed", "设备或其软件库出错"),
    "excluded.unavailable": ("no figure available", "无可用数据"),
    "excluded.no_result": ("left no usable result", "没有留下可用的结果"),
    "excluded.wrong_dtype": ("another number format than stated", "实际数据格式与声明不符"),
    "excluded.tf32_on": ("TF32 was on where fp32 was stated", "声明 fp32 时启用了 TF32"),
    "excluded.not_synchronised": ("timed without waiting for the device", "计时未等待设备完成"),
    "excluded.constant_inputs": ("inputs were not random", "输入不是随机数据"),
    "excluded.clock_skew": ("its clock was off by too much", "时钟偏差过大"),
    "excluded.over_clock_bound": ("faster than its clock allows", "超过时钟频率所允许的上限"),
    "excluded.digest_mismatch": ("another result than equal cards had", "与同型号卡的结果不一致"),
    "excluded.device_fault": ("the card reported a fault in the window", "窗口内设备报告了故障"),
    # -- other sections
    "cpu": ("CPU devices", "CPU 设备"),
    "cpu.note": (
        "Measured, verified, and never counted towards a goal: a CPU is not an accelerator.",
        "实测且经校验，但从不计入任何目标：CPU 不是加速卡。",
    ),
    "cpu.none": ("No CPU device has been measured.", "尚未测量任何 CPU 设备。"),
    "cpu.rate": ("GFLOP/s, never counted", "GFLOP/s（不计入目标）"),
    "yes": ("yes", "是"),
    "no": ("NO", "否"),
    "unrated": ("Installed cards without a vendor peak", "无厂商峰值的已安装加速卡"),
    "unrated.note": (
        "Listed here, left out of nominal, availability and efficiency. What they deliver when verified is counted.",
        "仅在此列出，不计入标称、可用率和效率；通过校验的实测值照常计入。",
    ),
    "unrated.none": (
        "None: every installed card has a known vendor peak, or no card is installed.",
        "无：已安装的卡均有已知的厂商峰值，或未安装加速卡。",
    ),
    "context": ("For context", "背景目标"),
    "context.note": (
        "Shown beside the goals above, which are part of it or overlap with it. Not added up, and not measured here.",
        "与上述目标并列展示；上述目标是其一部分或与之重叠。不相加，也不在此测量。",
    ),
    "source": ("Source", "来源"),
    "method": ("Method", "测量方法"),
    "method.text": (
        "Every device multiplies dense matrices with N(0,1) entries inside one shared window of W seconds. A "
        "device's work is F = 2·m·n·k for each product it finished and had verified in the window; the "
        "sustained rate is the sum of F over all devices divided by W, and W is the denominator for every "
        "device. From each batch one product is drawn after the work by a seeded generator and checked in "
        "float64 by Freivalds' method; checking time is inside the window. A device that starts late, "
        "finishes nothing, yields NaN or Inf, or fails a check counts zero. TF32 is off. Rates of batches are "
        "given as median and quantiles, never as best of N. 1 PFlops is 10^15 floating-point operations a "
        "second; a multiply-add counts as two. Nominal counts installed real cards only, at the vendor's "
        "dense peak.",
        "所有设备在同一个长度为 W 秒的窗口内计算元素服从 N(0,1) 的稠密矩阵乘法。一台设备的工作"
        "量为 F = 2·m·n·k 乘以其在窗口内完成并通过校验的乘积次数；持续算力等于所有设备的 F"
        " 之和除以 W，所有设备共用分母 W。每批运算结束后，由带种子的随机数发生器抽取一次乘积，用"
        " Freivalds 方法以双精度校验，校验时间计入窗口。启动过晚、没有完成任何运算、结果含 NaN"
        " 或 Inf、或校验失败的设备一律按零计。TF32 关闭。批次速率给出中位数和分位数，不取最佳值。"
        "1 PFlops 为每秒 10^15 次浮点运算，一次乘加计两次。标称只计已安装的真实加速卡，"
        "按厂商公布的稠密峰值计算。",
    ),
    "provenance": ("Provenance", "数据溯源"),
    "unreadable": (
        "{n} lines of the history could not be read and were left out.",
        "历史记录中有 {n} 行无法读取，未予采用。",
    ),
    "host": ("Host", "主机"),
    "versions": ("Versions", "版本"),
    "commit": ("Commit", "提交"),
    "protocol": ("Protocol", "协议版本"),
    "none": ("none", "无"),
    "separator": (", ", "、"),
    # -- the lines on the terminal
    "line.kept": ("no service answers; inventory kept at {at}", "服务没有应答，采用 {at} 保存的设备清单"),
    "line.smoke": ("smoke windows (under 600 s): not a proof of capacity", "冒烟测试（不足 600 秒）：不能作为算力证明"),
    "line.goal": (
        "{title}: goal {pflops} PFlops, {precision}, due {due}",
        "{title}：目标 {pflops} PFlops，{precision}，期限 {due}",
    ),
    "line.figures": (
        "  measured {measured} PFlops on {measured_devices} accelerators; missing {missing}; "
        "nominal {nominal} ({nominal_devices} cards); extrapolated {extrapolated} ({extrapolated_devices} cards)",
        "  实测 {measured} PFlops（{measured_devices} 张加速卡），距目标还差 {missing}；"
        "标称 {nominal}（{nominal_devices} 张卡）；外推 {extrapolated}（{extrapolated_devices} 张卡）",
    ),
    "line.simulated": (
        "  SIMULATED, counts for nothing: {pflops} PFlops from {devices} of {installed} simulated devices",
        "  模拟数据，不计入任何目标：{pflops} PFlops，{installed} 个模拟设备中 {devices} 个有结果",
    ),
    "line.cpu": (
        "CPU on {node}, never counted: {gflops} GFLOP/s {precision} on {devices} devices, {state}",
        "{node} 上的 CPU，从不计入目标：{devices} 个设备 {gflops} GFLOP/s（{precision}），{state}",
    ),
    "line.verified": ("verified", "已通过校验"),
    "line.not_verified": ("NOT verified: {reason}", "未通过校验：{reason}"),
    "line.wrote": ("wrote {path}", "已写入 {path}"),
}


class Words:
    """`words("missing", pflops="700")` in one language. An unknown key is a bug: KeyError."""

    def __init__(self, language: Language) -> None:
        self.language: Language = language
        self._place = LANGUAGES.index(language)

    def __call__(self, key: str, /, **values: object) -> str:
        text = _WORDS[key][self._place]
        return text.format(**values) if values else text

    def or_as_given(self, prefix: str, text: str) -> str:
        """The words for a configured text where there are some (`dense 16-bit`), otherwise the text itself."""
        found = _WORDS.get(f"{prefix}.{text}")
        return text if found is None else found[self._place]


def keys() -> frozenset[str]:
    return frozenset(_WORDS)
