/* SPDX-License-Identifier: GPL-2.0-or-later */
/* From a message to a method: is it varlink, is there such a method, may the peer call it, are the parameters
 * what the interface description says. */
#include "internal.h"

enum access {
	ACCESS_ALL,  /* anyone */
	ACCESS_PRIVILEGED, /* those who see everything */
	ACCESS_READ, /* those who see everything, and those who see their own if that is allowed */
	ACCESS_ROOT,
};

struct method {
	const char *interface, *name;
	enum access access;
	void (*fn)(struct session *s, const struct json *parameters);
	bool live; /* asks rooms that a recording doesn't have */
};

static void get_info(struct session *s, const struct json *parameters _unused_)
{
	struct api_daemon_status status = { 0 };
	struct json_writer *w;

	s->api->actions.status(s->api->actions.userdata, &status);
	w = session_reply_begin(s);
	json_put_string(w, "vendor", "stackd");
	json_put_string(w, "product", "stackd");
	json_put_string(w, "version", status.version);
	json_put_string(w, "url", "man:stackd(8)");
	json_key(w, "interfaces");
	json_open_array(w);
	json_write_string(w, idl_name(s->api->stackd));
	json_write_string(w, idl_name(s->api->service));
	json_close_array(w);
	session_reply_end(s, false);
}

static const struct idl *find_interface(const struct api *a, const char *name, size_t n)
{
	const struct idl *const all[] = { a->stackd, a->service };

	for (size_t i = 0; i < ELEMENTS_OF(all); i++)
		if (strlen(idl_name(all[i])) == n && memcmp(idl_name(all[i]), name, n) == 0)
			return all[i];
	return NULL;
}

static void get_interface_description(struct session *s, const struct json *parameters)
{
	const char *name = "";
	const struct idl *i;
	struct json_writer *w;

	json_get_string(parameters, "interface", &name);
	i = find_interface(s->api, name, strlen(name));
	if (!i) {
		session_error(s, "org.varlink.service.InterfaceNotFound", "interface", name);
		return;
	}
	w = session_reply_begin(s);
	json_put_string(w, "description", idl_text(i));
	session_reply_end(s, false);
}

static const struct method methods[] = {
	{ "org.varlink.service", "GetInfo", ACCESS_ALL, get_info },
	{ "org.varlink.service", "GetInterfaceDescription", ACCESS_ALL, get_interface_description },
	{ "org.stackd", "GetStatus", ACCESS_ALL, method_get_status, true },
	{ "org.stackd", "ListAnomalies", ACCESS_READ, method_list_anomalies },
	{ "org.stackd", "Subscribe", ACCESS_READ, method_subscribe, true },
	{ "org.stackd", "ListIncidents", ACCESS_READ, method_list_incidents },
	{ "org.stackd", "ListClusters", ACCESS_READ, method_list_clusters },
	{ "org.stackd", "GetCluster", ACCESS_READ, method_get_cluster },
	{ "org.stackd", "MuteCluster", ACCESS_ROOT, method_mute_cluster, true },
	{ "org.stackd", "LabelIncident", ACCESS_ROOT, method_label_incident, true },
	{ "org.stackd", "GetFlame", ACCESS_READ, method_get_flame },
	{ "org.stackd", "GetTop", ACCESS_READ, method_get_top },
	{ "org.stackd", "ListStacks", ACCESS_READ, method_list_stacks },
	{ "org.stackd", "GetStack", ACCESS_READ, method_get_stack },
	{ "org.stackd", "GetHeat", ACCESS_READ, method_get_heat },
	{ "org.stackd", "GetSeries", ACCESS_READ, method_get_series },
	{ "org.stackd", "GetLines", ACCESS_READ, method_get_lines, true },
	{ "org.stackd", "ListMissingDebug", ACCESS_ROOT, method_list_missing_debug, true },
	{ "org.stackd", "ListProcesses", ACCESS_READ, method_list_processes },
	{ "org.stackd", "GetGate", ACCESS_READ, method_get_gate, true },
	{ "org.stackd", "SetGate", ACCESS_ROOT, method_set_gate, true },
	{ "org.stackd", "WatchMemory", ACCESS_ROOT, method_watch_memory, true },
	{ "org.stackd", "UnwatchMemory", ACCESS_ROOT, method_unwatch_memory, true },
	{ "org.stackd", "ListMemoryWatches", ACCESS_PRIVILEGED, method_list_memory_watches, true },
	{ "org.stackd", "ListLeaks", ACCESS_PRIVILEGED, method_list_leaks, true },
};

struct message {
	const char *method;
	const struct json *parameters;
	bool more, oneway, upgrade;
};

static bool parse_message(const struct json *json, struct message *ret)
{
	struct message m = { 0 };

	if (json_get_string(json, "method", &m.method) <= 0 || json_get_bool(json, "more", &m.more) < 0 ||
	    json_get_bool(json, "oneway", &m.oneway) < 0 || json_get_bool(json, "upgrade", &m.upgrade) < 0)
		return false;
	if (m.more + m.oneway + m.upgrade > 1)
		return false;
	m.parameters = json_get(json, "parameters");
	*ret = m;
	return true;
}

/* The method, or NULL when it has been answered why not. */
static const struct method *find_method(struct session *s, const char *full_name,
                                        const struct idl **ret_interface)
{
	const char *dot = strrchr(full_name, '.');
	size_t n = dot ? (size_t)(dot - full_name) : strlen(full_name);
	_cleanup_free_ char *interface = strndup(full_name, n);
	const struct idl *i = find_interface(s->api, full_name, n);

	if (!interface) {
		session_failed(s, -ENOMEM);
		return NULL;
	}
	if (!i) {
		session_error(s, "org.varlink.service.InterfaceNotFound", "interface", interface);
		return NULL;
	}
	if (!dot || !idl_has_method(i, dot + 1)) {
		session_error(s, "org.varlink.service.MethodNotFound", "method", full_name);
		return NULL;
	}
	for (size_t m = 0; m < ELEMENTS_OF(methods); m++)
		if (streq(methods[m].interface, interface) && streq(methods[m].name, dot + 1) && !(methods[m].live && s->api->config.until_us > 0)) {
			*ret_interface = i;
			return &methods[m];
		}
	session_error(s, "org.varlink.service.MethodNotImplemented", "method", full_name);
	return NULL;
}

static bool is_allowed(struct session *s, const struct method *m)
{
	const char *reason;

	if (m->access == ACCESS_ALL || s->peer.uid == 0)
		return true;
	if (m->access == ACCESS_ROOT)
		reason = "only root changes anything";
	else if (m->access == ACCESS_PRIVILEGED && s->peer.privileged)
		return true;
	else if (m->access == ACCESS_PRIVILEGED)
		reason = "only root and the members of the group stackd may ask";
	else if (s->peer.privileged || s->api->config.users_see_own)
		return true;
	else
		reason = "only root and the members of the group stackd may ask (UsersSeeOwn=no)";
	session_error(s, "org.stackd.PermissionDenied", "reason", reason);
	return false;
}

static void call(struct session *s, const struct message *message)
{
	char field[IDL_FIELD_MAX] = "";
	const struct method *m;
	const struct idl *i;

	m = find_method(s, message->method, &i);
	if (!m || !is_allowed(s, m))
		return;
	if (message->parameters && json_kind(message->parameters) != JSON_OBJECT) {
		session_invalid_parameter(s, "parameters");
		return;
	}
	if (idl_check_call(i, m->name, message->parameters, field) < 0) {
		session_invalid_parameter(s, field);
		return;
	}
	/* Nobody would see what the others answer. */
	if (message->oneway && m->access != ACCESS_ROOT)
		return;
	m->fn(s, message->parameters);
}

bool dispatch(struct session *s, const char *text, size_t size)
{
	_cleanup_(json_freep) struct json *json = NULL;
	struct message message;

	if (json_parse(text, size, &json, NULL) < 0 || !parse_message(json, &message))
		return false;
	s->api->status.calls++;
	s->call = (struct call){ .more = message.more, .oneway = message.oneway };
	call(s, &message);
	return true;
}
