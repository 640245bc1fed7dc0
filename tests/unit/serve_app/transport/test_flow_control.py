"""Counting what a client has not read."""

from serve_app.transport.flow_control import Delivery


def test_what_was_sent_is_unread_until_a_later_ping_is_answered():
    delivery = Delivery(1000)
    delivery.sent(300)
    delivery.pinged(probe=True)
    delivery.sent(200)
    assert delivery.unread_bytes == 500
    assert delivery.ponged()
    assert delivery.unread_bytes == 200


def test_answers_belong_to_pings_in_their_order():
    delivery = Delivery(1000)
    delivery.pinged(probe=False)
    delivery.sent(10)
    delivery.pinged(probe=True)
    assert not delivery.ponged(), "the heartbeat's own"
    assert delivery.unread_bytes == 10
    assert delivery.ponged()
    assert delivery.unread_bytes == 0


def test_an_answer_that_nothing_asked_for_frees_nothing():
    delivery = Delivery(1000)
    delivery.sent(10)
    assert not delivery.ponged()
    assert delivery.unread_bytes == 10


def test_a_client_that_reads_is_asked_long_before_the_cap():
    delivery = Delivery(800)
    delivery.sent(99)
    assert not delivery.probe_due
    delivery.sent(1)
    assert delivery.probe_due
    delivery.pinged(probe=True)
    assert not delivery.probe_due


def test_what_waits_and_what_was_sent_count_together():
    delivery = Delivery(100)
    delivery.sent(60)
    delivery.waiting_bytes = 40
    assert not delivery.over
    delivery.sent(1)
    assert delivery.over


def test_what_is_unread_leaves_less_room_for_what_is_kept():
    delivery = Delivery(100)
    delivery.sent(60)
    delivery.waiting_bytes = 30
    assert delivery.room_bytes == 10
    delivery.sent(60)
    assert delivery.room_bytes == 0
