/* tests/unit/ports.c: keyboard controller, and the single ports. */
#include "tests/unit/board_rig.h"

enum { DATA = 0x60, CMD = 0x64 };

static void command(struct rig *r, uint8_t c) { out8(r, CMD, c); }
static bool full(struct rig *r) { return in8(r, CMD) & 1; }

static uint8_t answer(struct rig *r, uint8_t from_mouse)
{
    assert_int_equal(in8(r, CMD) & 0x21, 1 | from_mouse);
    return in8(r, DATA);
}

static void controller_self_test(void **state)
{
    struct rig *r = *state;
    assert_int_equal(in8(r, CMD), 0x14);
    command(r, 0xaa);
    assert_int_equal(in8(r, CMD), 0x1d);
    assert_int_equal(answer(r, 0), 0x55);
    assert_false(full(r));
    command(r, 0xab);
    assert_int_equal(answer(r, 0), 0);
    command(r, 0xa9);
    assert_int_equal(answer(r, 0), 0);
    command(r, 0x60);
    out8(r, DATA, 0x74);
    command(r, 0x20);
    assert_int_equal(answer(r, 0), 0x74);
    command(r, 0xd3); /* mouse loop-back */
    out8(r, DATA, 0xa5);
    assert_int_equal(answer(r, 0x20), 0xa5);
    command(r, 0xd0);
    assert_int_equal(answer(r, 0), 0x03);
}

static void keyboard_probe(void **state)
{
    struct rig *r = *state;
    pic_init(r, 1, 0xfd, 0xff);
    command(r, 0x60);
    out8(r, DATA, 0x05); /* keyboard interrupt, no translation */
    static const struct { uint8_t send, replies[3], n; } steps[] = {
        {0xff, {0xfa, 0xaa}, 2}, {0xf2, {0xfa, 0xab, 0x83}, 3}, {0xed, {0xfa}, 1}, {0x02, {0xfa}, 1},
        {0xf0, {0xfa}, 1},       {0x00, {0xfa, 0x02}, 2},       {0xee, {0xee}, 1}, {0x12, {0xfe}, 1},
        {0xf4, {0xfa}, 1},
    };
    for (unsigned i = 0; i < ARRAY_LEN(steps); i++) {
        out8(r, DATA, steps[i].send);
        for (unsigned k = 0; k < steps[i].n; k++) {
            assert_int_equal(take(r), 0x21); /* one edge a byte */
            out8(r, 0x20, 0x20);
            assert_int_equal(answer(r, 0), steps[i].replies[k]);
        }
        assert_false(full(r));
    }
    command(r, 0x60);
    out8(r, DATA, 0x45);
    out8(r, DATA, 0xf2);
    assert_int_equal(answer(r, 0), 0xfa);
    assert_int_equal(answer(r, 0), 0xab);
    assert_int_equal(answer(r, 0), 0x41); /* translated */
}

static void mouse_probe(void **state)
{
    struct rig *r = *state;
    pic_init(r, 1, 0xfb, 0xef);
    command(r, 0x60);
    out8(r, DATA, 0x02);
    static const struct { uint8_t send, replies[4], n; } steps[] = {
        {0xff, {0xfa, 0xaa, 0x00}, 3}, {0xf2, {0xfa, 0x00}, 2}, {0xf3, {0xfa}, 1}, {200, {0xfa}, 1}, {0xe8, {0xfa}, 1},
        {3, {0xfa}, 1}, {0xf4, {0xfa}, 1}, {0xe9, {0xfa, 0x20, 3, 200}, 4}, {0xf6, {0xfa}, 1}, {0xe1, {0xfe}, 1},
    };
    for (unsigned i = 0; i < ARRAY_LEN(steps); i++) {
        command(r, 0xd4);
        out8(r, DATA, steps[i].send);
        for (unsigned k = 0; k < steps[i].n; k++) {
            assert_int_equal(take(r), 0x2c);
            out8(r, 0xa0, 0x20);
            out8(r, 0x20, 0x20);
            assert_int_equal(answer(r, 0x20), steps[i].replies[k]);
        }
        assert_false(full(r));
    }
}

static void a_disabled_port_waits(void **state)
{
    struct rig *r = *state;
    out8(r, DATA, 0xf2);
    command(r, 0xad); /* the first byte is in the buffer already */
    assert_int_equal(answer(r, 0), 0xfa);
    assert_false(full(r));
    command(r, 0xae);
    assert_int_equal(answer(r, 0), 0xab);
}

static void controller_bits(void **state)
{
    struct rig *r = *state;
    static const struct { uint8_t command, config; } steps[] = {{0xa7, 0x65}, {0xad, 0x75}, {0xa8, 0x55}, {0xae, 0x45}};
    for (unsigned i = 0; i < ARRAY_LEN(steps); i++) {
        command(r, steps[i].command);
        command(r, 0x20);
        assert_int_equal(answer(r, 0), steps[i].config);
    }
    command(r, 0xdd);
    command(r, 0xd0);
    assert_int_equal(answer(r, 0), 0x01);
    command(r, 0xdf);
    command(r, 0xd0);
    assert_int_equal(answer(r, 0), 0x03);
    command(r, 0xc0);
    assert_int_equal(answer(r, 0), 0x80);
    command(r, 0xd2);
    out8(r, DATA, 0x1c);
    assert_int_equal(answer(r, 0), 0x1c);
    for (int i = 0; i < 100; i++) /* more answers than the queue holds */
        command(r, 0x20);
    int n = 0;
    for (; full(r); n++)
        assert_int_equal(answer(r, 0), 0x45);
    assert_int_equal(n, 17);
}

static enum machine_request request_after(uint16_t port, unsigned width, uint64_t v)
{
    struct rig *r = rig_create();
    out_n(r, port, width, v);
    enum machine_request q = r->m->request;
    assert_true(q == REQ_NONE || r->m->vcpu.brk & VCPU_BRK_EVENT);
    rig_destroy(r);
    return q;
}

static void resets(void **state)
{
    (void)state;
    assert_int_equal(request_after(CMD, 1, 0xfe), REQ_RESET);
    assert_int_equal(request_after(CMD, 1, 0xff), REQ_NONE);
    assert_int_equal(request_after(0x92, 1, 0x01), REQ_RESET);
    assert_int_equal(request_after(0x92, 1, 0x02), REQ_NONE);
    assert_int_equal(request_after(RESET_PORT, 1, RESET_VALUE), REQ_RESET);
    assert_int_equal(request_after(RESET_PORT, 1, 0x02), REQ_NONE);
    assert_int_equal(request_after(0xcf8, 4, 0x80000600), REQ_NONE); /* a configuration address, not a reset */
    struct rig *r = rig_create();
    command(r, 0xd1);
    out8(r, DATA, 0xdd);
    assert_int_equal(r->m->request, REQ_NONE);
    command(r, 0xd1);
    out8(r, DATA, 0xde);
    assert_int_equal(r->m->request, REQ_RESET);
    rig_destroy(r);
}

static void debug_exit(void **state)
{
    struct rig *r = *state;
    assert_int_equal(in_n(r, DEBUG_EXIT_PORT, 4), 0);
    out_n(r, DEBUG_EXIT_PORT, 4, 0x10);
    assert_int_equal(r->m->request, REQ_DEBUG_EXIT);
    assert_int_equal(r->m->request_value, 0x21);
    out_n(r, CMD, 1, 0xfe); /* the first request wins */
    assert_int_equal(r->m->request, REQ_DEBUG_EXIT);
    struct rig *q = rig_create();
    out_n(q, DEBUG_EXIT_PORT, 1, 0xff);
    assert_int_equal(q->m->request_value, 0xff);
    rig_destroy(q);
    q = rig_create();
    out_n(q, DEBUG_EXIT_PORT, 2, 0x1234);
    assert_int_equal(q->m->request_value, 0x69);
    rig_destroy(q);
}

static void single_ports(void **state)
{
    struct rig *r = *state;
    assert_int_equal(in8(r, DEBUG_CONSOLE_PORT), 0xe9);
    out8(r, DEBUG_CONSOLE_PORT, '!');
    assert_int_equal(r->out_len, 1);
    assert_int_equal(r->out[0].stream, ND_OUT_DEBUG);
    out8(r, POST_PORT, 0x42);
    assert_int_equal(in8(r, POST_PORT), 0x42);
    out_n(r, 0xcf8, 4, 0x80000000);
    assert_int_equal(in_n(r, 0xcf8, 4), 0xffffffff);
    assert_int_equal(in_n(r, 0xcfc, 4), 0xffffffff);
    assert_int_equal(in_n(r, 0xcfe, 2), 0xffff);
    out8(r, RESET_PORT, 0x0a);
    assert_int_equal(in8(r, RESET_PORT), 0x0a);
    assert_int_equal(in8(r, 0x92), 0x02);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        RIG_TEST(controller_self_test), RIG_TEST(keyboard_probe), RIG_TEST(mouse_probe),
        RIG_TEST(a_disabled_port_waits), RIG_TEST(controller_bits), cmocka_unit_test(resets),
        RIG_TEST(debug_exit), RIG_TEST(single_ports),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
