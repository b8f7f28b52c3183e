/* Drives libstrophe; see the driver of that name. */
#include <strophe.h>
#include <time.h>

#include "driver.h"

static int online, stopping, gone;

static int received(xmpp_conn_t *conn, xmpp_stanza_t *stanza, void *data) {
    char *body = xmpp_message_get_body(stanza);
    (void)conn, (void)data;
    if (body && from_peer(xmpp_stanza_get_from(stanza)))
        say("got", body);
    if (body)
        xmpp_free(xmpp_conn_get_context(conn), body);
    return 1;
}

static void changed(xmpp_conn_t *conn, xmpp_conn_event_t event, int error, xmpp_stream_error_t *why, void *data) {
    (void)data;
    if (event == XMPP_CONN_CONNECT) {
        xmpp_stanza_t *presence = xmpp_presence_new(xmpp_conn_get_context(conn));
        xmpp_handler_add(conn, received, NULL, "message", NULL, NULL);
        xmpp_send(conn, presence);
        xmpp_stanza_release(presence);
        fprintf(stderr, "secured: %d\n", xmpp_conn_is_secured(conn));
        online = 1;
        say("online", "");
    } else if (event == XMPP_CONN_DISCONNECT || event == XMPP_CONN_FAIL) {
        char text[200];
        snprintf(text, sizeof text, "error %d %s", error, why && why->text ? why->text : "");
        gone = 1;
        if (!stopping)
            say("lost", text);
    }
}

int main(void) {
    long flags = 0;
    xmpp_initialize();
    say("version", "libstrophe " VERSION);
    xmpp_ctx_t *context = xmpp_ctx_new(NULL, xmpp_get_default_logger(XMPP_LEVEL_INFO));
    xmpp_conn_t *conn = xmpp_conn_new(context);
    /* What a program writes: */
    if (tls_is("plain"))
        flags |= XMPP_CONN_FLAG_DISABLE_TLS;
    if (tls_is("starttls"))
        flags |= XMPP_CONN_FLAG_MANDATORY_TLS;
    if (tls_is("direct"))
        flags |= XMPP_CONN_FLAG_LEGACY_SSL;
    xmpp_conn_set_flags(conn, flags);
    if (ca_file())
        xmpp_conn_set_cafile(conn, ca_file());
    xmpp_conn_set_jid(conn, setting("XB_JID", NULL));
    xmpp_conn_set_pass(conn, setting("XB_PASSWORD", NULL));
    unsigned short port = (unsigned short)atoi(setting("XB_PORT", NULL));
    int connected = xmpp_connect_client(conn, setting("XB_HOST", "127.0.0.1"), port, changed, NULL);
    /* So far a program. */
    if (connected != XMPP_EOK) {
        say("lost", "cannot connect");
        return 1;
    }
    time_t until = time(NULL) + LOGIN_SECONDS;
    while (!online && !gone && time(NULL) < until)
        xmpp_run_once(context, STEP_MS);
    if (!online) {
        if (!gone)
            say("lost", "not online in time");
        return 1;
    }
    while (!stopping) {
        const char *text = next_command(gone ? STEP_MS : 0, &stopping);
        if (text) {
            xmpp_stanza_t *message = xmpp_message_new(context, "chat", setting("XB_PEER", NULL), NULL);
            xmpp_message_set_body(message, text);
            xmpp_send(conn, message);
            xmpp_stanza_release(message);
        }
        xmpp_run_once(context, STEP_MS);
    }
    xmpp_disconnect(conn);
    until = time(NULL) + LOGOUT_SECONDS;
    while (!gone && time(NULL) < until)
        xmpp_run_once(context, STEP_MS);
    xmpp_conn_release(conn);
    xmpp_ctx_free(context);
    say("offline", "");
    return 0;
}
