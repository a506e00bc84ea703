"""Plain first come, first served: the policy that `benchmarks.trace` compares with."""

from dataclasses import replace

from workbench.pool.policy import Plan, PoolView, decide


def first_come(view: PoolView) -> Plan:
    """What to do now if requests go ahead strictly in order of arrival.

    A request goes ahead once its model serves and no earlier request waits. For the first whose model does
    not serve, room is made and the model loaded, as `decide` would if nobody waited behind it;
    those behind wait, and are not looked at.
    """
    serving = {runner.model for runner in view.runners if runner.state == "serving"}
    ready = 0
    while ready < len(view.waiters) and view.waiters[ready].model in serving:
        ready += 1
    return decide(replace(view, waiters=view.waiters[: ready + 1]))
