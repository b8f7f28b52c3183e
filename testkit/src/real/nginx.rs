//! nginx as the reverse proxy that many connection managers sit behind.

use std::path::{Path, PathBuf};

use super::available::path_of;
use super::daemon::{Daemon, Folder};
use super::{Ca, accepts, free_ports, with_retries};

/// A running nginx in front of one connection manager, over http and https.
#[derive(Debug)]
pub struct Nginx {
    /// Ended by its drop.
    _daemon: Daemon,
    ca_file: PathBuf,
    log: PathBuf,
    ports: [u16; 2],
}

/// One request as nginx logs it, at its end.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Logged {
    /// `HTTP/1.1` or `HTTP/2.0`.
    pub protocol: String,
    /// Which connection carried it.
    pub connection: u64,
    /// The status of its answer.
    pub status: u16,
}

impl Nginx {
    /// Starts one that passes `/bosh` to `upstream`, an http URL.
    ///
    /// # Errors
    /// What is wrong.
    pub fn start(upstream: &str) -> Result<Self, String> {
        with_retries(|| Self::try_start(upstream, ""))
    }

    /// The same with HTTP/2 on offer over https. After `requests` on a connection it says GOAWAY; nginx's own
    /// default is 1000.
    ///
    /// # Errors
    /// What is wrong.
    pub fn start_http2(upstream: &str, requests: u32) -> Result<Self, String> {
        let more = format!("http2; keepalive_requests {requests}");
        with_retries(|| Self::try_start(upstream, &more))
    }

    /// `more` stands behind `ssl` in the line that has nginx listen.
    fn try_start(upstream: &str, more: &str) -> Result<Self, String> {
        let ports @ [http, https] = free_ports()?;
        let folder = Folder::new("nginx", Some("www-data"))?;
        let ca = Ca::new()?;
        let ca_file = folder.file("ca.pem", ca.pem())?.into();
        let (certificate, key) = ca.leaf(&["localhost", "127.0.0.1"])?;
        let certificate = folder.file("nginx.crt", &certificate)?;
        let key = folder.file("nginx.key", &key)?;
        let dir = folder.path().display();
        let log = folder.join("access.log");
        // Its read timeout, 60 s by default, must be above the wait of a long poll.
        let config = format!(
            "daemon off;\n\
             pid {dir}/nginx.pid;\n\
             error_log {dir}/error.log warn;\n\
             worker_processes 1;\n\
             events {{ worker_connections 4096; }}\n\
             http {{\n\
               log_format short '$server_protocol $connection $status';\n\
               access_log {log} short;\n\
               client_body_temp_path {dir}/body;\n\
               proxy_temp_path {dir}/proxy;\n\
               fastcgi_temp_path {dir}/fastcgi;\n\
               uwsgi_temp_path {dir}/uwsgi;\n\
               scgi_temp_path {dir}/scgi;\n\
               server {{\n\
                 listen 127.0.0.1:{http};\n\
                 listen 127.0.0.1:{https} ssl {more};\n\
                 ssl_certificate {certificate};\n\
                 ssl_certificate_key {key};\n\
                 location /bosh {{\n\
                   proxy_pass {upstream};\n\
                   proxy_http_version 1.1;\n\
                   proxy_set_header Connection \"\";\n\
                   proxy_buffering off;\n\
                   proxy_read_timeout 90s;\n\
                 }}\n\
               }}\n\
             }}\n"
        );
        let config = folder.file("nginx.conf", &config)?;
        let prefix = folder.join("");
        let errors = folder.join("error.log");
        let command = [
            &path_of("nginx"),
            "-c",
            &config,
            "-p",
            &prefix,
            "-e",
            &errors,
        ];
        let daemon = folder.run("nginx", false, &[], &command)?;
        daemon.wait_until(|| ports.iter().all(|&port| accepts(port)))?;
        Ok(Self {
            _daemon: daemon,
            ca_file,
            log: log.into(),
            ports,
        })
    }

    /// The requests so far, but those that are not answered.
    #[must_use]
    pub fn requests(&self) -> Vec<Logged> {
        let log = std::fs::read_to_string(&self.log).unwrap_or_default();
        let read = |line: &str| {
            let mut words = line.split(' ');
            Some(Logged {
                protocol: words.next()?.to_owned(),
                connection: words.next()?.parse().ok()?,
                status: words.next()?.parse().ok()?,
            })
        };
        log.lines().filter_map(read).collect()
    }

    /// Connections over https that are open now, as the kernel lists them.
    #[must_use]
    pub fn open_connections(&self) -> usize {
        // Columns: number, local address, remote address, state; 01 is ESTABLISHED. Each connection on
        // loopback stands there twice, once with this port as the remote one.
        let table = std::fs::read_to_string("/proc/net/tcp").unwrap_or_default();
        let port = format!(":{:04X}", self.ports[1]);
        let open = |line: &&str| {
            let mut words = line.split_whitespace().skip(2);
            words.next().is_some_and(|remote| remote.ends_with(&port)) && words.next() == Some("01")
        };
        table.lines().filter(open).count()
    }

    /// The connection manager's URL through it.
    pub fn bosh_url(&self, tls: bool, host: &str) -> String {
        if tls {
            format!("https://{host}:{}/bosh", self.ports[1])
        } else {
            format!("http://{host}:{}/bosh", self.ports[0])
        }
    }

    /// PEM of the authority that signed its certificate.
    pub fn ca_file(&self) -> &Path {
        &self.ca_file
    }
}
