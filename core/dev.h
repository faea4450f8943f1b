/* core/dev.h: how a device plugs into the machine: with data.
 * To add one: a state struct (guest-visible, no pointers), a field table, a region table, a dev_class, and a row in
 * core/devices.def. Creation order, reset order and digest order are the order of that file. No static state. */
#ifndef HW_DEV_H
#define HW_DEV_H

#include "core/bus.h"
#include "core/snap.h"

struct machine;

struct dev_class {
    const char *name;
    void *(*create)(struct machine *m); /* allocates and resets; NULL when memory is short */
    void (*destroy)(void *dev);
    const struct bus_region *regions;   /* mapped by the machine after create; may be NULL */
    const struct snap_field *state;     /* fields of the struct state_of() returns */
    void *(*state_of)(void *dev);
    void (*restored)(void *dev);        /* after snap_load: re-derive lines, timers; may be NULL */
    bool (*valid)(const void *state);   /* could the device have got there? What its code relies on; NULL: any state will do */
};

enum dev_id {
#define DEV(id, class) DEV_##id,
#include "core/devices.def"
#undef DEV
    DEV_COUNT
};

#define DEV(id, class) extern const struct dev_class class;
#include "core/devices.def"
#undef DEV

#endif
