/* tests/guest/smc32.c: code that changes, in 32-bit protected mode. See smc.h. */
#include "smc.h"

int main(void)
{
    smc_all();
    return 0;
}
