"""The words of the report's other sections, its method and audit, and the lines on the terminal: English, Chinese."""

from __future__ import annotations

OTHER_WORDS: dict[str, tuple[str, str]] = {
    # -- other sections
    "cpu": ("CPU devices", "CPU 设备"),
    "cpu.note": (
        "Measured, verified, and never counted towards a goal: a CPU is not an accelerator.",
        "实测且经校验，但从不计入任何目标：CPU 不是加速卡。",
    ),
    "cpu.none": ("No CPU device has been measured.", "尚未测量任何 CPU 设备。"),
    "cpu.rate": ("GFLOP/s, never counted", "GFLOP/s（不计入目标）"),
    "yes": ("yes", "是"),
    "no": ("NO: {why}", "否：{why}"),
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
    "method": ("Method", "测量方法"),
    "method.text": (
        "Every device multiplies dense matrices with N(0,1) entries inside one shared window of W seconds. A "
        "device's work is F = 2·m·n·k for each product of a batch that was finished and verified in the window; "
        "the sustained rate is the sum of F over all devices divided by W, and W is the denominator for every "
        "device. After every few batches some of their products, at least one of 256, are drawn by a seeded "
        "generator and checked in higher precision by Freivalds' method; checking time is inside the window. A device "
        "that starts late, finishes nothing, yields NaN or Inf, fails one check, or whose clock is off by more than "
        "50 ms counts zero. TF32 is off unless it is the stated precision. Rates are given as median and quantiles, "
        "never as best of N. 1 PFlops is 10^15 floating-point operations a second; a multiply-add counts as two. "
        "Nominal counts installed real cards only, at the vendor's dense peak. The interval covers how batch "
        "rates wander in the window, with all cards taken as moving together, and clock offsets. The trend is the "
        "Theil–Sen slope over accepted nights with Sen's 95% interval; below 14 nights, or where the interval "
        "holds zero, nothing is projected.",
        "所有设备在同一个长度为 W 秒的窗口内计算元素服从 N(0,1) 的稠密矩阵乘法。一台设备的工作量为 F = 2·m·n·"
        "k 乘以其在窗口内完成并通过校验的批次所含的乘积次数；持续算力等于所有设备的 F 之和除以 W，所有设备共"
        "用分母 W。每若干批运算结束后，由带种子的随机数发生器从其乘积中抽取一部分（每 256 次至少一次），用 Fr"
        "eivalds 方法以更高精度校验，校验时间计入窗口。启动过晚、没有完成任何运算、结果含 NaN 或 Inf、任何一"
        "次校验失败或时钟偏差超过 50 毫秒的设备一律按零计。除非声明的精度就是 TF32，否则 TF32 关闭。速率给出"
        "中位数和分位数，不取最佳值。1 PFlops 为每秒 10^15 次浮点运算，一次乘加计两次。标称只计已安装的真实加"
        "速卡，按厂商公布的稠密峰值计算。区间涵盖窗口内批次速率的波动（按各卡同步变动的最宽情形计）和时钟偏差"
        "。趋势为有效测试夜上的 Theil–Sen 斜率及 Sen 的 95% 区间；不足 14 夜或区间包含零时不作预测。",
    ),
    "inventory": ("Inventory", "设备清单"),
    "interval.name": ("95% interval", "95% 区间"),
    "missing.name": ("Missing to the goal", "距目标差额"),
    "audit.sheet": ("Audit", "核验"),
    "times": ("Times are China Standard Time (UTC+8).", "时间均为北京时间（UTC+8）。"),
    # -- the audit
    "audit": ("How to check this report", "如何核验本报告"),
    "audit.log": (
        "Made from {lines} lines of the results log, recorded from {since} to {until}. SHA-256 of these lines, in "
        "order:",
        "依据结果日志中 {since} 至 {until} 记录的 {lines} 行生成。这些行按顺序计算的 SHA-256：",
    ),
    "audit.no_log": (
        "The history behind this report did not come from a log file, so nothing can be recomputed from one.",
        "本报告所依据的历史并非来自日志文件，因此无法据以重新计算。",
    ),
    "audit.figures": (
        "SHA-256 of the figures (capacity.json carries the same):",
        "指标的 SHA-256（与 capacity.json 一致）：",
    ),
    "audit.command": (
        "This command computes every figure again from the log (LOG: its file or directory) and says which differ; "
        "where a result names its raw batches, it computes the work from those too:",
        "以下命令依据日志（LOG 为其文件或目录）重新计算每一项指标，并指出不一致之处；"
        "若结果注明了原始批次，还会据其重新计算工作量：",
    ),
    "sign": ("Signed for the site", "站点负责人签字"),
    "sign.name": ("Name", "姓名"),
    "sign.date": ("Date", "日期"),
    "page_of": ("{title} · {at}", "{title} · {at}"),
    # -- the lines on the terminal
    "line.kept": ("no service answers; inventory kept at {at}", "服务没有应答，采用 {at} 保存的设备清单"),
    "line.smoke": ("smoke windows (under 600 s): not a proof of capacity", "冒烟测试（不足 600 秒）：不能作为算力证明"),
    "line.goal": (
        "{title}: goal {pflops} PFlops, {precision}, due {due}",
        "{title}：目标 {pflops} PFlops，{precision}，期限 {due}",
    ),
    "line.figures": (
        "  measured {measured}; missing {missing} PFlops; nominal {nominal}; extrapolated {extrapolated}",
        "  实测 {measured}；距目标还差 {missing} PFlops；标称 {nominal}；外推 {extrapolated}",
    ),
    "line.figure": ("{pflops} PFlops ({devices} cards)", "{pflops} PFlops（{devices} 张卡）"),
    "line.no_figure": ("none ({why})", "无（{why}）"),
    "line.simulated": (
        "  SIMULATED, counts for nothing: {told}",
        "  模拟数据，不计入任何目标：{told}",
    ),
    "line.cpu": (
        "CPU on {node}, never counted: {gflops} GFLOP/s {precision} on {devices} devices, {state}",
        "{node} 上的 CPU，从不计入目标：{devices} 个设备 {gflops} GFLOP/s（{precision}），{state}",
    ),
    "line.verified": ("verified", "已通过校验"),
    "line.not_verified": ("NOT verified: {reason}", "未通过校验：{reason}"),
    "line.wrote": ("wrote {path}", "已写入 {path}"),
}
