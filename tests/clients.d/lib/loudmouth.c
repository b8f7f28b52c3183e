/* Drives loudmouth; see the driver of that name. */
#include <loudmouth/loudmouth.h>
#include <time.h>

#include "driver.h"

static int online, stopping, gone;

static LmHandlerResult received(LmMessageHandler *handler, LmConnection *conn, LmMessage *message, gpointer data) {
    LmMessageNode *body = lm_message_node_get_child(message->node, "body");
    (void)handler, (void)conn, (void)data;
    if (body && lm_message_node_get_value(body) && from_peer(lm_message_node_get_attribute(message->node, "from")))
        say("got", lm_message_node_get_value(body));
    return LM_HANDLER_RESULT_REMOVE_MESSAGE;
}

static void authenticated(LmConnection *conn, gboolean success, gpointer data) {
    (void)data;
    if (!success) {
        say("lost", "not authenticated");
        exit(1);
    }
    LmMessage *presence = lm_message_new_with_sub_type(NULL, LM_MESSAGE_TYPE_PRESENCE, LM_MESSAGE_SUB_TYPE_AVAILABLE);
    lm_connection_send(conn, presence, NULL);
    lm_message_unref(presence);
    online = 1;
    say("online", "");
}

static void opened(LmConnection *conn, gboolean success, gpointer data) {
    GError *error = NULL;
    char *user = (char *)data;
    if (!success) {
        say("lost", "no stream");
        exit(1);
    }
    if (!lm_connection_authenticate(conn, user, setting("XB_PASSWORD", NULL), "loudmouth", authenticated, NULL, NULL,
                                    &error)) {
        say("lost", error ? error->message : "not authenticated");
        exit(1);
    }
}

static void closed(LmConnection *conn, LmDisconnectReason reason, gpointer data) {
    char text[40];
    (void)conn, (void)data;
    snprintf(text, sizeof text, "reason %d", (int)reason);
    gone = 1;
    if (!stopping)
        say("lost", text);
}

/* Whatever is wrong with the certificate: no. */
static LmSSLResponse untrusted(LmSSL *ssl, LmSSLStatus status, gpointer data) {
    (void)ssl, (void)data;
    fprintf(stderr, "certificate: status %d\n", (int)status);
    return LM_SSL_RESPONSE_STOP;
}

int main(void) {
    GError *error = NULL;
    char *user = g_strdup(setting("XB_JID", NULL));
    char *domain = strchr(user, '@');
    *domain++ = 0;
    say("version", "loudmouth " VERSION);
    /* What a program writes: */
    LmConnection *conn = lm_connection_new(setting("XB_HOST", "127.0.0.1"));
    lm_connection_set_port(conn, (guint)atoi(setting("XB_PORT", NULL)));
    lm_connection_set_jid(conn, setting("XB_JID", NULL));
    if (tls_is("starttls") || tls_is("direct")) {
        LmSSL *ssl = lm_ssl_new(NULL, untrusted, NULL, NULL);
        if (tls_is("starttls"))
            lm_ssl_use_starttls(ssl, TRUE, TRUE);
        if (ca_file())
            lm_ssl_set_ca(ssl, ca_file());
        lm_connection_set_ssl(conn, ssl);
        lm_ssl_unref(ssl);
    }
    /* So far a program. */
    LmMessageHandler *handler = lm_message_handler_new(received, NULL, NULL);
    lm_connection_register_message_handler(conn, handler, LM_MESSAGE_TYPE_MESSAGE, LM_HANDLER_PRIORITY_NORMAL);
    lm_connection_set_disconnect_function(conn, closed, NULL, NULL);
    if (!lm_connection_open(conn, opened, user, NULL, &error)) {
        say("lost", error ? error->message : "cannot connect");
        return 1;
    }
    time_t until = time(NULL) + LOGIN_SECONDS;
    while (!stopping) {
        while (g_main_context_iteration(NULL, FALSE))
            continue;
        if (!online && (gone || time(NULL) >= until)) {
            if (!gone)
                say("lost", "not online in time");
            return 1;
        }
        const char *text = online ? next_command(STEP_MS, &stopping) : (g_usleep(1000 * STEP_MS), NULL);
        if (text) {
            LmMessage *message = lm_message_new_with_sub_type(setting("XB_PEER", NULL), LM_MESSAGE_TYPE_MESSAGE,
                                                              LM_MESSAGE_SUB_TYPE_CHAT);
            lm_message_node_add_child(message->node, "body", text);
            if (!lm_connection_send(conn, message, &error)) {
                fprintf(stderr, "not sent: %s\n", error ? error->message : "");
                g_clear_error(&error);
            }
            lm_message_unref(message);
        }
    }
    if (!gone)
        lm_connection_close(conn, NULL);
    lm_connection_unref(conn);
    say("offline", "");
    return 0;
}
