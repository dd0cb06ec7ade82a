//! A site of virtual desktops that keeps its sessions, and tells them as the Citrix Monitor service does: by OData, page by page,
//! on premises with a password or in the cloud with tokens that expire. It can be busy, and its connections can be torn.

use std::collections::HashSet;
use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::{SystemTime, UNIX_EPOCH};

use seatmeter_count::calendar::date_of;
use serde_json::{Value, json};

/// The password, and the secret of the cloud's client.
pub const SECRET: &str = "s3cret+/=";

/// A running site.
pub struct Site {
    /// Its address, with the port.
    pub address: String,
    state: Arc<Mutex<State>>,
}

#[derive(Default)]
struct State {
    sessions: Vec<Session>,
    /// How many sessions a page has.
    page_size: usize,
    /// How many of the next questions each of these meets.
    busy: u32,
    torn: u32,
    expired: u32,
    /// Whether each page names itself as the next one.
    is_round: bool,
    /// How far its clock is ahead, in seconds.
    ahead: i64,
    /// The tokens that are valid.
    tokens: HashSet<String>,
    issued: u64,
    /// The questions that were answered with a page.
    pages: u64,
}

struct Session {
    user: String,
    group: String,
    start: i64,
    end: Option<i64>,
    modified: i64,
}

/// Returns the current time, in seconds since 1970 UTC.
pub fn now() -> i64 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs() as i64
}

impl Default for Site {
    fn default() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap().to_string();
        let state = Arc::new(Mutex::new(State { page_size: 100, ..State::default() }));
        let (shared, own) = (state.clone(), address.clone());
        std::thread::spawn(move || {
            for stream in listener.incoming().map_while(Result::ok) {
                let (shared, own) = (shared.clone(), own.clone());
                // A client that goes away is none of its business.
                std::thread::spawn(move || drop(serve(stream, &shared, &own)));
            }
        });
        Self { address, state }
    }
}

impl Site {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap()
    }

    /// Sets how many sessions a page has.
    pub fn page_size(&self, size: usize) {
        self.state().page_size = size;
    }

    /// A user began a session so many seconds ago. Returns its number.
    pub fn begin(&self, user: &str, group: &str, ago: i64) -> usize {
        let mut state = self.state();
        let (user, group, modified) = (user.to_owned(), group.to_owned(), now());
        state.sessions.push(Session { user, group, start: modified - ago, end: None, modified });
        state.sessions.len() - 1
    }

    /// A session ended so many seconds ago.
    pub fn end(&self, number: usize, ago: i64) {
        let session = &mut self.state().sessions[number];
        (session.end, session.modified) = (Some(now() - ago), now());
    }

    /// A user had a session, from one moment to another one so many seconds ago.
    pub fn had(&self, user: &str, group: &str, began: i64, ended: i64) {
        let number = self.begin(user, group, began);
        let session = &mut self.state().sessions[number];
        session.end = Some(session.modified - ended);
        session.modified -= ended;
    }

    /// The next questions meet a server that is busy, connections that are torn, and tokens that have expired: so many each.
    pub fn misbehave(&self, busy: u32, torn: u32, expired: u32) {
        let mut state = self.state();
        (state.busy, state.torn, state.expired) = (busy, torn, expired);
    }

    /// A session is said to have been changed so many seconds from now.
    pub fn change_ahead(&self, number: usize, seconds: i64) {
        self.state().sessions[number].modified = now() + seconds;
    }

    /// From now on, each page names itself as the next one, or not.
    pub fn go_round(&self, is_round: bool) {
        self.state().is_round = is_round;
    }

    /// From now on, the clock that is told with each page is ahead.
    pub fn set_clock(&self, ahead: i64) {
        self.state().ahead = ahead;
    }

    /// Returns whether all misbehaviour was met.
    pub fn has_misbehaved(&self) -> bool {
        let state = self.state();
        (state.busy, state.torn, state.expired) == (0, 0, 0)
    }

    /// Returns how many pages were told.
    pub fn pages(&self) -> u64 {
        self.state().pages
    }

    /// Returns the seconds that sessions of a delivery group lasted through a moment, in seconds since 1970 UTC.
    pub fn seconds(&self, group: &str, through: i64) -> i64 {
        let state = self.state();
        let of_group = state.sessions.iter().filter(|session| session.group == group);
        of_group.map(|session| (session.end.unwrap_or(through).min(through) - session.start).max(0)).sum()
    }
}

/// A question: its first line, its headers in lower case, and its body.
struct Question {
    method: String,
    path: String,
    query: Vec<(String, String)>,
    headers: Vec<(String, String)>,
    body: String,
}

fn serve(mut stream: TcpStream, state: &Mutex<State>, own: &str) -> std::io::Result<()> {
    while let Some(question) = read(&mut stream)? {
        let (status, more, body) = answer(&question, &mut state.lock().unwrap(), own);
        let clock = http_date(now() + state.lock().unwrap().ahead);
        if status == TORN {
            // The answer ends in its middle.
            return write!(stream, "HTTP/1.1 200 OK\r\nContent-Length: 5000\r\n\r\n{{\"value\": [");
        }
        write!(
            stream,
            "HTTP/1.1 {status} Status\r\nDate: {clock}\r\nContent-Length: {}\r\n{more}\r\n{body}",
            body.len()
        )?;
    }
    Ok(())
}

const TORN: u16 = 0;

fn read(stream: &mut TcpStream) -> std::io::Result<Option<Question>> {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        let mut byte = [0];
        if stream.read(&mut byte)? == 0 {
            return Ok(None);
        }
        head.push(byte[0]);
    }
    let head = String::from_utf8_lossy(&head).into_owned();
    let mut lines = head.lines();
    let mut first = lines.next().unwrap_or_default().split(' ');
    let (method, target) = (first.next().unwrap_or_default().to_owned(), first.next().unwrap_or_default());
    let headers: Vec<(String, String)> = lines
        .filter_map(|line| line.split_once(": "))
        .map(|(name, value)| (name.to_ascii_lowercase(), value.to_owned()))
        .collect();
    let length =
        headers.iter().find(|(name, _)| name == "content-length").map_or(0, |(_, value)| value.parse().unwrap());
    let mut body = vec![0; length];
    stream.read_exact(&mut body)?;
    let (path, query) = target.split_once('?').unwrap_or((target, ""));
    let body = String::from_utf8_lossy(&body).into_owned();
    Ok(Some(Question { method, path: path.to_owned(), query: pairs(query), headers, body }))
}

/// Reads a query, or a form.
fn pairs(text: &str) -> Vec<(String, String)> {
    let decoded = |text: &str| {
        let text = text.replace('+', " ");
        let mut parts = text.split('%');
        let mut bytes = parts.next().unwrap_or_default().as_bytes().to_vec();
        for part in parts {
            bytes.push(u8::from_str_radix(&part[..2], 16).unwrap());
            bytes.extend_from_slice(&part.as_bytes()[2..]);
        }
        String::from_utf8(bytes).unwrap()
    };
    text.split('&')
        .filter_map(|pair| pair.split_once('='))
        .map(|(name, value)| (decoded(name), decoded(value)))
        .collect()
}

fn answer(question: &Question, state: &mut State, own: &str) -> (u16, &'static str, String) {
    let header = |wanted: &str| {
        question.headers.iter().find(|(name, _)| name == wanted).map(|(_, value)| value.as_str()).unwrap_or_default()
    };
    if question.method == "POST" {
        let form = pairs(&question.body);
        let expected = [("grant_type", "client_credentials"), ("client_id", "agent"), ("client_secret", SECRET)];
        let is_known = expected.iter().all(|(name, value)| form.contains(&((*name).into(), (*value).into())));
        if !is_known || question.path != "/acme/tokens/clients" {
            return (401, "", json!({ "error": "invalid_client" }).to_string());
        }
        state.issued += 1;
        let token = format!("token-{}", state.issued);
        state.tokens.insert(token.clone());
        let answer = json!({ "token_type": "bearer", "access_token": token, "expires_in": "3600" });
        return (200, "", answer.to_string());
    }
    if state.expired > 0 {
        state.expired -= 1;
        state.tokens.clear();
    }
    let token = header("authorization").strip_prefix("CWSAuth bearer=");
    let is_customer = header("citrix-customerid") == "acme";
    // `monitor` with the secret above.
    let has_password = header("authorization") == "Basic bW9uaXRvcjpzM2NyZXQrLz0=";
    if !(has_password || (is_customer && token.is_some_and(|token| state.tokens.contains(token)))) {
        return (401, "WWW-Authenticate: Basic realm=\"site\"\r\n", String::new());
    }
    if state.busy > 0 {
        state.busy -= 1;
        return (429, "Retry-After: 1\r\n", "Too many requests".into());
    }
    if state.torn > 0 {
        state.torn -= 1;
        return (TORN, "", String::new());
    }
    let asked = |name: &str| question.query.iter().find(|(known, _)| known == name).map(|(_, value)| value.clone());
    let filter = asked("$filter").unwrap_or_default();
    let skip: usize = asked("$skip").map_or(0, |skip| skip.parse().unwrap());
    let after = filter.strip_prefix("EndDate ne null and ModifiedDate gt ");
    let is_wanted = |session: &&(usize, &Session)| match after {
        None => filter == "EndDate eq null" && session.1.end.is_none(),
        Some(after) => session.1.end.is_some() && date(session.1.modified).as_str() > after,
    };
    let all: Vec<(usize, &Session)> = state.sessions.iter().enumerate().collect();
    let wanted: Vec<Value> = all.iter().filter(is_wanted).map(|(number, session)| row(*number, session)).collect();
    let page: Vec<&Value> = wanted.iter().skip(skip).take(state.page_size).collect();
    let mut answer = json!({ "@odata.context": "https://site/$metadata#Sessions", "value": page });
    if state.is_round || skip + state.page_size < wanted.len() {
        let next = if state.is_round { skip } else { skip + state.page_size };
        let filter = filter.replace(' ', "%20").replace(':', "%3A");
        // As behind a proxy: another name than the one that was asked.
        let next = format!("http://inside.example:8080{}?$filter={filter}&$skip={next}&asked={own}", question.path);
        answer["@odata.nextLink"] = next.into();
    }
    state.pages += 1;
    (200, "Content-Type: application/json; odata.metadata=minimal\r\n", answer.to_string())
}

fn row(number: usize, session: &Session) -> Value {
    json!({
        "SessionKey": format!("8b1f3c52-0000-4000-8000-{number:012}"),
        "StartDate": date(session.start),
        "LogOnDuration": 12034,
        "EndDate": session.end.map(date),
        "ExitCode": 0,
        "ConnectionState": 5,
        "UserId": number,
        "SessionType": 0,
        "IsAnonymous": false,
        "CreatedDate": date(session.start),
        "ModifiedDate": date(session.modified),
        "User": { "Id": number, "Upn": session.user, "UserName": "x", "Domain": "ACME", "FullName": null },
        "Machine": { "Name": "ACME\\VDA1", "DesktopGroup": { "Name": session.group } },
    })
}

/// Returns a moment as the service writes it.
fn date(at: i64) -> String {
    let (day, time) = (at.div_euclid(86_400), at.rem_euclid(86_400));
    format!("{}T{:02}:{:02}:{:02}.500Z", date_of(day as i32), time / 3600, time / 60 % 60, time % 60)
}

/// Returns a moment as HTTP writes it.
fn http_date(at: i64) -> String {
    const DAYS: [&str; 7] = ["Thu", "Fri", "Sat", "Sun", "Mon", "Tue", "Wed"];
    const MONTHS: [&str; 12] = ["Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"];
    let (day, time) = (at.div_euclid(86_400), at.rem_euclid(86_400));
    let date = date_of(day as i32);
    let (weekday, month) = (DAYS[day.rem_euclid(7) as usize], MONTHS[date.month() as usize - 1]);
    let clock = format!("{:02}:{:02}:{:02}", time / 3600, time / 60 % 60, time % 60);
    format!("{weekday}, {:02} {month} {} {clock} GMT", date.day(), date.year())
}
