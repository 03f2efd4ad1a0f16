"""The report's words about the page as a whole, the kinds of evidence and one goal: English, Chinese."""

from __future__ import annotations

GOAL_WORDS: dict[str, tuple[str, str]] = {
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
    "simulated.only": (
        "SIMULATED: no card of this report exists, and nothing in it was measured.",
        "模拟数据：本报告中的卡均不存在，没有任何实测结果。",
    ),
    "simulated.box": ("Simulated, kept apart", "模拟数据，单独列示"),
    "simulated.figure": ("{pflops} PFlops (simulated)", "{pflops} PFlops（模拟）"),
    "simulated.none": ("no simulated figure yet", "尚无模拟结果"),
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
    "interval": ("95% interval {low} to {high} PFlops", "95% 区间 {low} 至 {high} PFlops"),
    "interval.none": (
        "no interval: batch rates were not recorded for every verified card",
        "无区间：并非每张通过校验的卡都记录了批次速率",
    ),
    "identity": (
        "{nominal} nominal × {availability} availability × {efficiency} efficiency = {measured} PFlops measured",
        "标称 {nominal} × 可用率 {availability} × 效率 {efficiency} = 实测 {measured} PFlops",
    ),
    "estimate": ("Estimate of the whole", "整体估计"),
    "estimate.means": (
        "extrapolated from {sampled} of {cards} cards (strata: {strata}); {confidence} interval {low} to {high}",
        "外推：从 {cards} 张卡中抽测 {sampled} 张（{strata} 层）推算；{confidence} 区间 {low} 至 {high}",
    ),
    "cards_needed": ("In cards: {list}", "折合卡数：{list}"),
    "cards_needed.one": ("{n} more {model}", "{model} 还需 {n} 张"),
    "separator.or": (", or ", "，或"),
    "achieved": ("PFlops measured of {goal}", "PFlops 实测，目标 {goal}"),
    "achieved.none": ("nothing measured; the goal is {goal} PFlops", "尚无实测值，目标 {goal} PFlops"),
    "part.about": ("{cards} · {share} of goal", "{cards} · 占目标 {share}"),
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
    "lock.means": (
        "PFlops a synchronous job would get: cards × slowest verified card",
        "同步任务可得的 PFlops：卡数 × 最慢的已校验卡",
    ),
    "energy": ("Energy", "能耗"),
    "energy.means": (
        "over the same window; read on {cards} of {run} cards",
        "同一窗口内；{run} 张卡中已读取 {cards} 张",
    ),
    "per_watt": ("GFLOPS/W", "能效 GFLOPS/W"),
    "per_watt.means": ("counted work / energy of the cards read", "计入的运算量 / 已读取的卡的能耗"),
    "undefined": ("undefined", "无定义"),
    "unread": ("not read", "未读取"),
    "why.no_cards": ("no accelerator is installed here", "此处没有安装加速卡"),
    "why.no_rated_cards": ("no installed card has a known vendor peak", "已安装的卡均无已知的厂商峰值"),
    "why.no_window": ("no card has been run in a window yet", "尚无加速卡在测试窗口内运行"),
    "why.nothing_verified": ("no card passed verification", "没有加速卡通过校验"),
    "why.no_rated_card_verified": ("no card with a known vendor peak was verified", "通过校验的卡均无已知的厂商峰值"),
    "why.all_run": ("every card was run: nothing is left to extrapolate", "所有卡均已参测，无需外推"),
    "why.no_equal_card": ("no equal card was verified", "没有同型号的卡通过校验"),
    "why.energy_not_read": ("no energy counter was read in this window", "本窗口内未读取能耗计数"),
    "passed_over": (
        "{n} later windows (smoke runs, re-runs of a few cards) were passed over.",
        "其后另有 {n} 个窗口（冒烟测试或少数卡的重测）未采用。",
    ),
    "window.line": (
        "Window of {window} s ({label}) from {at}, {precision}, run {run}; {samples} products checked, one corrupt "
        "product is noticed with probability {chance}",
        "{label}窗口 {window} 秒，开始于 {at}，精度 {precision}，批次 {run}；抽检 {samples} 次乘积，"
        "单次错误乘积被发现的概率为 {chance}",
    ),
    # -- nights
    "trend": ("Night by night", "逐夜趋势"),
    "trend.chart": ("Measured, PFlops, accepted nights", "实测 PFlops，按有效测试夜"),
    "trend.goal": ("goal {pflops}", "目标 {pflops}"),
    "trend.goal_above": ("goal {pflops}, above this axis", "目标 {pflops}，超出本图范围"),
    "outlook.reached": ("The goal is reached in the window that stands.", "在所采用的窗口内已达到目标。"),
    "outlook.no_nights": (
        "No accepted night yet: a night counts with a window of 600 s or more. No projection.",
        "尚无有效测试夜（窗口须不少于 600 秒），不作预测。",
    ),
    "outlook.too_few_nights": (
        "Accepted nights so far: {n}. A projection needs {needed}.",
        "目前有效测试夜 {n} 个；至少 {needed} 个方可预测。",
    ),
    "outlook.flat": (
        "Over {n} nights the slope cannot be told from zero: {slope} PFlops a day (95% {low} to {high}). "
        "No projection.",
        "{n} 个测试夜的斜率与零无显著差别：每日 {slope} PFlops（95% 区间 {low} 至 {high}），不作预测。",
    ),
    "outlook.falling": (
        "Over {n} nights the figure falls: {slope} PFlops a day (95% {low} to {high}). No projection.",
        "{n} 个测试夜呈下降趋势：每日 {slope} PFlops（95% 区间 {low} 至 {high}），不作预测。",
    ),
    "outlook.too_far": (
        "Growth over {n} nights is {slope} PFlops a day (95% {low} to {high}). At that pace the goal would be reached "
        "after {horizon}, further away than {n} nights can tell; it is due {due}. No date is given.",
        "{n} 个测试夜的增长为每日 {slope} PFlops（95% 区间 {low} 至 {high}）。按此速度，达标将晚于 {horizon}，"
        "超出 {n} 个测试夜所能推断的范围；期限为 {due}。不给出日期。",
    ),
    "outlook.before_due": (
        "Growth over {n} nights is {slope} PFlops a day (95% {low} to {high}). At that pace the goal is reached on "
        "{date} ({earliest} to {latest}), before it is due on {due}.",
        "{n} 个测试夜的增长为每日 {slope} PFlops（95% 区间 {low} 至 {high}）。按此速度，预计 {date} 达标"
        "（{earliest} 至 {latest}），早于期限 {due}。",
    ),
    "outlook.around_due": (
        "Growth over {n} nights is {slope} PFlops a day (95% {low} to {high}). At that pace the goal is reached on "
        "{date} ({earliest} to {latest}); whether that is before it is due on {due} cannot be told yet.",
        "{n} 个测试夜的增长为每日 {slope} PFlops（95% 区间 {low} 至 {high}）。按此速度，预计 {date} 达标"
        "（{earliest} 至 {latest}）；能否在期限 {due} 之前达标尚无法判断。",
    ),
    "outlook.after_due": (
        "Growth over {n} nights is {slope} PFlops a day (95% {low} to {high}). At that pace the goal is reached on "
        "{date} ({earliest} to {latest}), after it is due on {due}.",
        "{n} 个测试夜的增长为每日 {slope} PFlops（95% 区间 {low} 至 {high}）。按此速度，预计 {date} 达标"
        "（{earliest} 至 {latest}），晚于期限 {due}。",
    ),
    "outlook.open_end": ("open", "未定"),
    "night_range": (
        "The last {n} nights lay between {low} and {high} PFlops. If nothing changes, the next one will too with a "
        "chance of {chance}.",
        "最近 {n} 个测试夜介于 {low} 与 {high} PFlops 之间；若情况不变，下一夜仍在此范围内的概率为 {chance}。",
    ),
}
