/* replay/reserve.c: see reserve.h. */
#include "replay/reserve.h"

#include <pthread.h>
#include <signal.h>
#include <stdlib.h>

#include "core/base/base.h"
#include "core/base/map.h"

struct reserve {
    size_t len, blocks;
    pthread_t thread;
    bool threaded;
    pthread_mutex_t lock; /* of what follows */
    pthread_cond_t change;
    bool stop;
    size_t ready;
    uint8_t *block[];
};

static uint8_t *touched(size_t len)
{
    uint8_t *p = map_zero(len);
    for (size_t i = 0; p && i < len; i += PAGE_SIZE)
        *(volatile uint8_t *)(p + i) = 0;
    return p;
}

/* ---- on the thread ---- */

static void *fill(void *arg)
{
    struct reserve *r = arg;
    pthread_mutex_lock(&r->lock);
    while (!r->stop) {
        if (r->ready == r->blocks) {
            pthread_cond_wait(&r->change, &r->lock);
            continue;
        }
        pthread_mutex_unlock(&r->lock);
        uint8_t *p = touched(r->len);
        pthread_mutex_lock(&r->lock);
        if (!p)
            break; /* whoever needs memory will hear of it */
        r->block[r->ready++] = p;
    }
    pthread_mutex_unlock(&r->lock);
    return NULL;
}

/* ---- outside ---- */

uint8_t *reserve_take(struct reserve *r)
{
    uint8_t *p = NULL;
    pthread_mutex_lock(&r->lock);
    if (r->ready)
        p = r->block[--r->ready];
    pthread_cond_signal(&r->change);
    pthread_mutex_unlock(&r->lock);
    return p ? p : map_zero(r->len);
}

struct err *reserve_create(size_t len, size_t blocks, struct reserve **out)
{
    struct reserve *r = calloc(1, sizeof(*r) + blocks * sizeof(*r->block));
    sigset_t all, old;
    if (!r)
        return err_new(ERR_HOST, "out of memory");
    r->len = len;
    r->blocks = blocks;
    pthread_mutex_init(&r->lock, NULL);
    pthread_cond_init(&r->change, NULL);
    sigfillset(&all); /* signals are for the thread that runs the guest */
    pthread_sigmask(SIG_SETMASK, &all, &old);
    r->threaded = blocks && !pthread_create(&r->thread, NULL, fill, r);
    pthread_sigmask(SIG_SETMASK, &old, NULL);
    *out = r;
    return NULL;
}

void reserve_release(struct reserve *r)
{
    pthread_mutex_lock(&r->lock);
    r->stop = true;
    pthread_cond_signal(&r->change);
    pthread_mutex_unlock(&r->lock);
    if (r->threaded)
        pthread_join(r->thread, NULL);
    r->threaded = false;
    while (r->ready)
        map_free(r->block[--r->ready], r->len);
}

void reserve_destroy(struct reserve *r)
{
    if (!r)
        return;
    reserve_release(r);
    pthread_cond_destroy(&r->change);
    pthread_mutex_destroy(&r->lock);
    free(r);
}
