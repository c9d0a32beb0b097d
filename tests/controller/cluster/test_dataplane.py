from controller.cluster.dataplane import AssumedDataPlane


def _route(generation, uid="a"):
    meta = {"name": "ranker", "namespace": "ml", "uid": uid, "generation": generation, "resourceVersion": "9"}
    return {"kind": "VirtualService", "metadata": meta}


class _Clock:
    now = 100.0

    def __call__(self):
        return self.now


async def test_a_version_is_in_force_after_the_time_of_propagation():
    clock = _Clock()
    proxies = AssumedDataPlane(5.0, clock)
    assert not (await proxies.applied(_route(1))).ok
    clock.now += 4.9
    assert not (await proxies.applied(_route(1))).ok
    clock.now += 0.1
    assert (await proxies.applied(_route(1))).ok


async def test_who_has_to_wait_is_told_for_how_long():
    clock = _Clock()
    proxies = AssumedDataPlane(5.0, clock)
    assert (await proxies.applied(_route(1))).retry_after == 5.0
    clock.now += 3
    again = (await proxies.applied(_route(1))).retry_after
    assert again == 2.0
    clock.now += again
    assert (await proxies.applied(_route(1))).ok


async def test_every_new_version_waits_again():
    clock = _Clock()
    proxies = AssumedDataPlane(5.0, clock)
    await proxies.applied(_route(1))
    clock.now += 10
    assert not (await proxies.applied(_route(2))).ok
    assert not (await proxies.applied(_route(2, uid="recreated"))).ok


async def test_without_propagation_everything_is_in_force_at_once():
    assert (await AssumedDataPlane(0.0, _Clock()).applied(_route(1))).ok
