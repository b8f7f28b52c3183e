// Drives gloox; see the driver of that name.
#include <gloox/client.h>
#include <gloox/connectionlistener.h>
#include <gloox/connectiontcpclient.h>
#include <gloox/connectiontls.h>
#include <gloox/gloox.h>
#include <gloox/message.h>
#include <gloox/messagehandler.h>
#include <gloox/tlshandler.h>

#include <ctime>

#include "driver.h"

namespace {

bool trusted(const gloox::CertInfo &info) {
    std::fprintf(stderr, "certificate: status %d, for %s\n", info.status, info.server.c_str());
    return info.status == gloox::CertOk;
}

// Judges the certificate of TLS from the first byte, which `Client` does not see.
class Judge : public gloox::TLSHandler {
public:
    void handleEncryptedData(const gloox::TLSBase *, const std::string &) override {}
    void handleDecryptedData(const gloox::TLSBase *, const std::string &) override {}

    void handleHandshakeResult(const gloox::TLSBase *, bool success, gloox::CertInfo &info) override {
        if (!success || !trusted(info)) {
            say("lost", "certificate not trusted");
            std::exit(1);
        }
    }
};

class Chat : public gloox::ConnectionListener, public gloox::MessageHandler {
public:
    bool online = false, gone = false;
    int stopping = 0;

    void onConnect() override {
        online = true;
        say("online", "");
    }

    void onDisconnect(gloox::ConnectionError error) override {
        gone = true;
        std::string text = "error " + std::to_string(int(error));
        if (!stopping)
            say("lost", text.c_str());
    }

    // gloox leaves the decision to its program. The name is the program's to compare, too.
    bool onTLSConnect(const gloox::CertInfo &info) override {
        return trusted(info);
    }

    void handleMessage(const gloox::Message &message, gloox::MessageSession *) override {
        if (!message.body().empty() && from_peer(message.from().full().c_str()))
            say("got", message.body().c_str());
    }
};

} // namespace

int main() {
    Chat chat;
    Judge judge;
    say("version", ("gloox " + gloox::GLOOX_VERSION).c_str());
    gloox::JID jid(setting("XB_JID", NULL));
    std::string host = setting("XB_HOST", "127.0.0.1");
    int port = std::atoi(setting("XB_PORT", NULL));
    // What a program writes:
    gloox::Client client(jid, setting("XB_PASSWORD", NULL));
    client.setServer(host);
    client.setPort(port);
    if (tls_is("plain") || tls_is("direct"))
        client.setTls(gloox::TLSDisabled);
    if (tls_is("starttls"))
        client.setTls(gloox::TLSRequired);
    if (tls_is("direct")) {
        auto *tcp = new gloox::ConnectionTCPClient(client.logInstance(), host, port);
        auto *tls = new gloox::ConnectionTLS(&client, tcp, client.logInstance());
        tls->setServer(jid.server());
        tls->registerTLSHandler(&judge);
        client.setConnectionImpl(tls);
    }
    // So far a program.
    client.registerConnectionListener(&chat);
    client.registerMessageHandler(&chat);
    if (!client.connect(false)) {
        say("lost", "cannot connect");
        return 1;
    }
    std::time_t until = std::time(nullptr) + LOGIN_SECONDS;
    while (!chat.online && !chat.gone && std::time(nullptr) < until)
        client.recv(1000 * STEP_MS);
    if (!chat.online) {
        if (!chat.gone)
            say("lost", "not online in time");
        return 1;
    }
    while (!chat.stopping) {
        const char *text = next_command(chat.gone ? STEP_MS : 0, &chat.stopping);
        if (text && !chat.gone)
            client.send(gloox::Message(gloox::Message::Chat, gloox::JID(setting("XB_PEER", NULL)), text));
        if (!chat.gone)
            client.recv(1000 * STEP_MS);
    }
    if (!chat.gone)
        client.disconnect();
    say("offline", "");
    return 0;
}
