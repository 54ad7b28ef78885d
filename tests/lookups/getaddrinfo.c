/* Loaded before the system's resolver (LD_PRELOAD): in this process the n-th lookup of a name that ends in .test gives the n-th
   address of $TIDEGATE_TEST_ADDRESSES, which are separated by blanks, and the last one from then on. */

#define _GNU_SOURCE
#include <dlfcn.h>
#include <netdb.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

typedef int lookup(const char *, const char *, const struct addrinfo *, struct addrinfo **);

int getaddrinfo(const char *name, const char *service, const struct addrinfo *hints, struct addrinfo **found)
{
    static atomic_int lookups;
    lookup *system_lookup = (lookup *)dlsym(RTLD_NEXT, "getaddrinfo");
    const char *top = name ? strrchr(name, '.') : NULL;
    const char *addresses = getenv("TIDEGATE_TEST_ADDRESSES");
    char address[64];

    if (!top || strcmp(top, ".test") != 0 || !addresses)
        return system_lookup(name, service, hints, found);
    for (int nth = atomic_fetch_add(&lookups, 1); nth > 0 && strchr(addresses, ' '); nth--)
        addresses = strchr(addresses, ' ') + 1;
    snprintf(address, sizeof address, "%.*s", (int)strcspn(addresses, " "), addresses);
    return system_lookup(address, service, hints, found);
}
