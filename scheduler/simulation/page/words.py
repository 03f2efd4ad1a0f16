"""Every word of the simulation page, in English and simplified Chinese. No arithmetic, no layout."""

from __future__ import annotations

from scheduler.two_languages import LANGUAGES, Language, TwoLanguages

__all__ = ["LANGUAGES", "Language", "Words", "keys"]

# U+00A0 keeps a figure and its unit on one line.
_WORDS: dict[str, tuple[str, str]] = {
    # -- units
    "percent": ("{n}\u00a0%", "{n}%"),
    "points": ("{n}\u00a0points", "{n}\u00a0个百分点"),
    "unit.s": ("{n}\u00a0s", "{n}\u00a0秒"),
    "unit.min": ("{n}\u00a0min", "{n}\u00a0分"),
    "unit.h": ("{n}\u00a0h", "{n}\u00a0小时"),
    "unit.d": ("{n}\u00a0d", "{n}\u00a0天"),
    "unit.ms": ("{n}\u00a0ms", "{n}\u00a0毫秒"),
    "unit.kwh": ("{n} kWh", "{n} kWh"),
    "unit.device_h": ("{n} device-hours", "{n}\u00a0卡时"),
    "separator": (", ", "、"),
    "colon": (": ", "："),
    "semicolon": ("; ", "；"),
    # -- simulated
    "simulated": ("SIMULATED", "模拟数据"),
    "simulated.banner": (
        "No job ran and nothing was measured. No figure here counts as achieved.",
        "没有运行任何任务，也没有任何实测。本页数据不能作为实际达成的结果。",
    ),
    "simulated.small": ("simulated", "模拟"),
    "simulated.sheet": ("SIMULATED: nothing on this sheet was measured", "模拟数据：本页内容均非实测"),
    "partial": ("PARTIAL", "未跑完"),
    "partial.banner": (
        "The simulation was stopped before its end. The figures are of what had happened until then.",
        "模拟在结束前被中止，以下数据只反映中止之前的情况。",
    ),
    "partial.short": ("partial", "未跑完"),
    "complete": ("to the end", "已跑完"),
    # -- header
    "document": ("Simulation", "调度模拟"),
    "untitled": ("Simulated run", "模拟运行"),
    "cluster": ("Cluster", "集群"),
    "workload": ("Workload", "工作负载"),
    "unnamed": ("not named", "未命名"),
    "about.size": ("{nodes} nodes, {devices} devices", "{nodes} 个节点，{devices} 张加速卡"),
    "about.times": ("{n} × {model}", "{model} × {n}"),
    "about.site": ("{site}: {n} devices", "{site}：{n} 张卡"),
    "about.work": (
        "{jobs} jobs, arriving over {span}; services: {services}",
        "{jobs} 个任务，到达时间跨度 {span}；服务 {services} 个",
    ),
    "compared": ("Compared", "对比方案"),
    "run": ("Run", "方案"),
    "again": ("Run it again", "复现命令"),
    "seed": ("Seed", "随机种子"),
    "version": ("Version", "版本"),
    "commit": ("Commit", "提交"),
    "generated": ("Generated", "生成时间"),
    "took": ("Took", "模拟耗时"),
    "none": ("none", "无"),
    "not_known": ("not known", "未知"),
    # -- headline
    "differences": ("Differences at a glance", "主要差异"),
    "key_figures": ("Key figures", "关键指标"),
    "differences.how": (
        "Each change is against the first run, {base}. ▲ the figure rose, ▼ it fell, = it reads the same; the word "
        "says whether that is better.",
        "变化均以第一个方案（{base}）为基准。▲ 表示数值上升，▼ 表示下降，= 表示相同；文字说明是变好还是变差。",
    ),
    "differences.size": (
        "Utilisation is not judged between clusters of different size: the same work fills more devices less.",
        "集群规模不同时不评判利用率：同样的工作分到更多的卡上，利用率自然较低。",
    ),
    "verdict": (
        "{run}: better in {better}, worse in {worse}, the same in {same} of the figures below.",
        "{run}：下列指标中 {better} 项更优，{worse} 项更差，{same} 项相同。",
    ),
    "verdict.partial": (
        "{run}: not judged, because a partial run and another do not cover the same time.",
        "{run}：不作评判，因为未跑完的方案与其他方案覆盖的时间不同。",
    ),
    "better": ("better", "更优"),
    "worse": ("worse", "更差"),
    "same": ("the same", "相同"),
    "unjudged": ("not judged", "不评判"),
    "base": ("base", "基准"),
    "base.mark": (" (base)", "（基准）"),
    "figure": ("Figure", "指标"),
    "metric.utilisation": ("Utilisation, mean", "平均利用率"),
    "metric.wait_p50": ("Wait, median", "等待时间中位数"),
    "metric.wait_p95": ("Wait, p95", "等待时间 p95"),
    "metric.wait_p99": ("Wait, p99", "等待时间 p99"),
    "metric.never_started": ("Jobs that never started", "始终未启动的任务"),
    "metric.completion_p50": ("Completion, median", "完成时间中位数"),
    "metric.completion_p95": ("Completion, p95", "完成时间 p95"),
    "metric.succeeded": ("Jobs succeeded", "成功完成的任务"),
    "metric.preemptions": ("Preemptions", "抢占次数"),
    "metric.work_lost": ("Work lost to preemption", "抢占损失的计算量"),
    "metric.attained": ("SLO attainment", "SLO 达成率"),
    "metric.fragmentation": ("Fragmentation, mean", "平均碎片率"),
    "metric.makespan": ("Makespan", "总完工时间"),
    "metric.jain": ("Fairness (Jain index)", "公平性（Jain 指数）"),
    "metric.energy": ("Energy", "能耗"),
    "means.utilisation": ("device time in use / device time there was", "已用卡时 / 可用卡时"),
    "means.wait": ("submission to first start, of jobs that started", "从提交到首次启动，只计已启动的任务"),
    "means.never_started": ("at the end of the simulation", "到模拟结束时"),
    "means.completion": ("submission to end, of jobs that ended", "从提交到结束，只计已结束的任务"),
    "means.succeeded": ("ended by themselves, within their time limit", "在时限内自行结束"),
    "means.preemptions": ("attempts ended for a job of a higher claim", "为优先级更高的任务让出资源的次数"),
    "means.work_lost": ("done since the last checkpoint, to be done again", "上次检查点之后的工作，需要重做"),
    "means.attained": ("requests answered within their service's limit", "在服务时限内得到响应的请求比例"),
    "means.fragmentation": ("idle, but of no use to a typical job", "空闲但典型任务用不上的部分"),
    "means.makespan": ("first arrival to last end", "从首个任务到达到最后一个任务结束"),
    "means.jain": ("1 is even; 1/n is everything for one of n tenants", "1 为完全均衡；1/n 为 n 个租户中一家独占"),
    "means.energy": ("devices of known power only", "只计功率已知的加速卡"),
    # -- runs
    "runs": ("What was run", "模拟设置"),
    "policy": ("Policy", "调度策略"),
    "added": ("Nodes added", "增加的节点"),
    "size": ("Size", "规模"),
    "simulated_time": ("Simulated time", "模拟时长"),
    "state": ("State", "状态"),
    "outcomes": ("What became of the jobs", "任务结果"),
    "jobs.submitted": ("Submitted", "已提交"),
    "jobs.succeeded": ("Succeeded", "成功"),
    "jobs.ended_at_limit": ("Ended at their limit", "超时结束"),
    "jobs.refused": ("Refused", "被拒绝"),
    "jobs.waiting": ("Still waiting", "仍在等待"),
    "jobs.running": ("Still running", "仍在运行"),
    # -- the cluster over time
    "over_time": ("The cluster over time", "集群随时间的变化"),
    "simulated_time.axis": ("simulated time", "模拟时间"),
    "fig.used": ("Utilisation", "利用率"),
    "fig.used.axis": ("devices in use, % of all", "使用中的卡占比，%"),
    "fig.waiting_devices": ("Devices waited for", "等待中的卡需求"),
    "fig.waiting_devices.axis": ("devices that waiting jobs ask for", "等待任务所需卡数"),
    "fig.waiting_jobs": ("Jobs waiting", "等待中的任务"),
    "fig.waiting_jobs.axis": ("jobs", "任务数"),
    "fig.fragmentation": ("Fragmentation", "碎片率"),
    "fig.fragmentation.axis": ("stranded, %", "碎片占比，%"),
    "fig.by_model": ("Utilisation by model", "各型号利用率"),
    "fig.by_site": ("Utilisation by site", "各站点利用率"),
    "fig.utilisation.axis": ("mean utilisation, %", "平均利用率，%"),
    "small_multiples": (
        "One strip a run; the thin grey line is the first run, {base}.",
        "每个方案一栏；细灰线为第一个方案（{base}）。",
    ),
    "gap": ("A break in a line: no figure for that time.", "线条中断处表示该时段没有数据。"),
    # -- waiting
    "waiting": ("Waiting", "等待时间"),
    "fig.wait_class": ("Wait by priority class", "各优先级的等待时间"),
    "fig.wait_tenant": ("Wait by tenant", "各租户的等待时间"),
    "fig.wait.axis": ("wait, logarithmic", "等待时间（对数坐标）"),
    "wait.marks": (
        "Dot: median. Bar: p95. Diamond: p99. Waits under a second stand at the left edge.",
        "圆点为中位数，竖线为 p95，菱形为 p99；不足 1 秒的画在左边缘。",
    ),
    "class": ("Priority class", "优先级"),
    "tenant": ("Tenant", "租户"),
    "count": ("Jobs", "任务数"),
    "p50": ("Median", "中位数"),
    "p95": ("p95", "p95"),
    "p99": ("p99", "p99"),
    "max": ("Longest", "最长"),
    "never_started": ("Never started", "未启动"),
    "all": ("All jobs", "全部任务"),
    "preempted": ("Preemptions by class of the victim", "各优先级被抢占的次数"),
    "preempted.axis": ("preemptions", "抢占次数"),
    # -- services
    "services": ("Services", "服务"),
    "services.none": ("This workload has no services.", "该工作负载不含服务。"),
    "services.shown": (
        "Drawn here: the {n} services of {all} with the lowest attainment in any run. The table has all of them.",
        "图中只画出 {all} 个服务中达成率最低的 {n} 个，表格列出全部。",
    ),
    "service": ("Service", "服务"),
    "fig.service.caption": (
        "{tenant}, {cls}. Limit: 99 % of requests within {slo}.",
        "{tenant}，{cls}。时限：99% 的请求在 {slo}内。",
    ),
    "attained.axis": ("within the limit, %", "时限内占比，%"),
    "replicas.axis": ("replicas", "副本数"),
    "requests.axis": ("requests a second", "每秒请求数"),
    "slo": ("Limit, p99", "p99 时限"),
    "requests": ("Requests", "请求数"),
    "attained": ("Within the limit", "时限内"),
    "service_p99": ("p99", "p99"),
    "replicas_mean": ("Replicas, mean", "平均副本数"),
    # -- fairness
    "fairness": ("Fairness", "公平性"),
    "fig.share": ("Share of device time against weight", "卡时占比与权重对照"),
    "fig.share.axis": ("share of device time, %", "卡时占比，%"),
    "share.marks": (
        "Bar: what the tenant used. Dark tick: its part of all weights. A bar may be short because little was asked.",
        "色条为租户实际使用，深色竖线为其权重占比。色条偏短也可能只是需求少。",
    ),
    "weight": ("Weight", "权重"),
    "entitled": ("Part of all weights", "权重占比"),
    "share": ("Share used", "使用占比"),
    "device_hours": ("Device-hours", "卡时"),
    "wait_p95": ("Wait, p95", "等待 p95"),
    "fairness.none": ("No tenant used a device.", "没有租户使用过加速卡。"),
    # -- energy
    "energy": ("Energy", "能耗"),
    "fig.energy": ("Energy by model", "各型号能耗"),
    "fig.energy.axis": ("energy, kWh", "能耗，kWh"),
    "energy.unknown": (
        "{run}: {n} devices of unknown power are left out.",
        "{run}：有 {n} 张卡功率未知，未计入。",
    ),
    "energy.basis": ("Basis: {basis}", "计算依据：{basis}"),
    "energy.none": ("No power is known for the devices of this cluster.", "该集群的加速卡功率均未知。"),
    # -- tables and figures in general
    "model": ("Model", "型号"),
    "site": ("Site", "站点"),
    "no_figures": ("Nothing to draw: the simulation gave no figures for this.", "没有可画的数据：模拟未给出这些数字。"),
    "more_rows": ("{n} more are in the table.", "其余 {n} 项见表格。"),
    "aria": ("Simulated. {title}. {summary}", "模拟数据。{title}。{summary}"),
    "aria.range": ("{run}: {low} to {high}", "{run}：{low} 至 {high}"),
    "aria.nothing": ("{run}: no figures", "{run}：无数据"),
    # -- method
    "method": ("Method, and what to keep in mind", "方法与注意事项"),
    "method.text": (
        "The planner that decides live was given a virtual clock, the cluster and the workload named above, and "
        "decided every start, preemption and replica as it would in service; machines, run times and requests are "
        "simulated. "
        "A wait is the time from submission to the first start, a completion from submission to the end; jobs that "
        "never started or ended are counted apart, not averaged in. Quantiles are over jobs, each counted once. "
        "The SLO attainment of several services is weighted by their requests. The same seed, version and inputs give "
        "the same figures; another seed gives others, so a small difference under one seed decides nothing.",
        "模拟使用与线上相同的调度核心，在虚拟时钟下对上述集群和工作负载做出每一次启动、抢占和副本决策；"
        "机器、运行时间和请求均为模拟。等待时间指从提交到首次启动，完成时间指从提交到结束；"
        "始终未启动或未结束的任务单独计数，不计入平均。分位数按任务计算，每个任务计一次。"
        "多个服务的 SLO 达成率按请求数加权。种子、版本和输入相同则结果相同；换一个种子结果会不同，"
        "因此同一种子下两个方案之间的微小差异不足以作为决策依据。",
    ),
    "notes": ("Notes of this simulation", "本次模拟的说明"),
    "notes.none": ("The simulation left no notes.", "本次模拟没有附加说明。"),
    "raw": ("All figures as they stand in the JSON document", "JSON 文档中的全部原始数据"),
    "raw.how": (
        "Names and units are those of the document (seconds, shares of 1). Series over time are in the JSON only: "
        "run the command above with -o json.",
        "名称和单位与文档一致（秒；占比以 1 为全部）。时间序列只在 JSON 中：以 -o json 运行上面的命令。",
    ),
    "raw.name": ("Name", "名称"),
}


class Words(TwoLanguages):
    """`words("verdict", run="fair", better=3, worse=1, same=0)` in one language."""

    def __init__(self, language: Language) -> None:
        super().__init__(_WORDS, language)


def keys() -> frozenset[str]:
    return frozenset(_WORDS)
