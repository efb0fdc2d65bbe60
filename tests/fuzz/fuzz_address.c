/* SPDX-License-Identifier: LGPL-2.1-or-later */

/* Addresses from programs and people: what parses is made of valid names and reads back as it was written. */

#include "tests/fuzz/fuzz.h"
#include "wire/address.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	const char *text = (const char *)data, *why = NULL;
	struct address address;
	uint32_t domid = 0;

	if (address_parse(text, size, &address, &why) == 0) {
		size_t host = strlen(address.host), domain = strlen(address.domain);
		size_t endpoint = strlen(address.endpoint);

		check(size <= ADDRESS_MAX);
		if (host) {
			check(host_name_is_valid(text, host) && !memcmp(address.host, text, host) &&
			      text[host] == '/');
			text += host + 1;
			size -= host + 1;
		}
		check(domain + 1 + endpoint == size && memcmp(address.domain, text, domain) == 0);
		check(text[domain] == ':' && memcmp(address.endpoint, text + domain + 1, endpoint) == 0);
		check(domain_name_is_valid(text, domain) &&
		      endpoint_name_is_valid(text + domain + 1, endpoint));
		return 0;
	}
	check(why != NULL);
	if (domid_parse(text, size, &domid))
		check(domid <= DOMID_MAX && size <= 5 && domain_name_is_valid(text, size));
	if (endpoint_name_is_valid(text, size))
		check(domain_name_is_valid(text, size));
	return 0;
}
