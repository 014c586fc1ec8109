//! What is typed, and what the refusal says. `$CONTROLLER`, `$TCP`, `$UDP` and `$DIR` stand for the network's own.

/// One command line that must be refused.
pub(crate) struct Case {
    /// What is typed behind `hesper`.
    pub(crate) words: &'static [&'static str],
    /// 2: mistyped. 1: refused.
    pub(crate) code: i32,
    /// Parts of the one message.
    pub(crate) says: &'static [&'static str],
}

impl Case {
    /// Is it a case of this command?
    pub(crate) fn starts_with(&self, command: &str) -> bool {
        command.split(' ').eq(self.words.iter().copied().take(command.split(' ').count()))
    }
}

/// `code, [words] => [parts];`
macro_rules! cases {
    ($($code:literal, [$($word:literal),+] => [$($part:literal),*];)+) => {
        vec![$(Case { words: &[$($word),+], code: $code, says: &[$($part),*] }),+]
    };
}

/// The commands that ask the controller, and those that only print.
pub(crate) fn management() -> Vec<Case> {
    [create(), create_policies(), update(), delete(), list(), others()].into_iter().flatten().collect()
}

fn create() -> Vec<Case> {
    cases! {
        2, ["create", "identity"] => ["<NAME>"];
        2, ["create", "identity", "robot", "x"] => ["'robot' is no type of identity"];
        2, ["create", "identity", "user", "x", "y"] => ["'y'"];
        2, ["create", "identity", "x", "-p", "best"] => ["best", "default, required, failed"];
        2, ["create", "identity", "x", "-c", "70000"] => ["70000"];
        2, ["create", "identity", "x", "-t", "novalue"] => ["'novalue' is not of the form key=value"];
        2, ["create", "identity", "x", "--tags-json", "[1]"] => ["a JSON object is needed"];
        1, ["create", "identity", ""] => ["name must not be empty"];
        1, ["create", "identity", "a\nb"] => [r"a\nb", "must not contain control characters"];
        1, ["create", "identity", "x", "--permissions", "telemetry.read"] => ["knows no 'telemetry.read'", "the words are telemetry.forward"];
        1, ["create", "identity", "taken"] => ["409 Conflict", "already an identity named 'taken'"];
        1, ["create", "identity", "device", "taken", "-o", "new.jwt"] => ["already an identity named 'taken'"];
        1, ["create", "identity", "x", "-a", "#x"] => ["roleAttributes", "'#x'"];
        1, ["create", "identity", "x", "-o", "empty"] => ["empty exists already and is not overwritten"];
        1, ["create", "identity", "x", "-o", "directory"] => ["directory exists already"];
        1, ["create", "identity", "x", "-o", "nowhere/x.jwt"] => ["cannot create nowhere/x.jwt: No such file"];
        1, ["create", "identity", "x", "-i", "stranger"] => ["no login 'stranger'", "hesper edge login"];
        2, ["create", "service"] => ["<NAME>"];
        2, ["create", "service", "x", "--terminator-strategy", "best"] => ["best", "smartrouting"];
        2, ["create", "service", "x", "-e", "MAYBE"] => ["MAYBE"];
        2, ["create", "service", "x", "--max-idle-time", "-1"] => ["-1"];
        1, ["create", "service", "taken"] => ["already a service named 'taken'"];
        1, ["create", "service", "x", "-c", "nobody"] => ["no configs found with id or name nobody"];
        1, ["create", "service", "x", "-a", "@x"] => ["roleAttributes", "'@x'"];
        2, ["create", "config"] => ["<NAME>", "<TYPE>"];
        2, ["create", "config", "x", "host.v1"] => ["no configuration"];
        2, ["create", "config", "x", "host.v1", "{"] => ["invalid JSON", "line 1", "Attempted to parse: {"];
        2, ["create", "config", "x", "host.v1", "[1]"] => ["a JSON object is needed"];
        2, ["create", "config", "x", "host.v1", "{}", "-f", "object.json"] => ["not both"];
        2, ["create", "config", "x", "host.v1", "-f", "text"] => ["text: invalid JSON", "line 1 column"];
        1, ["create", "config", "x", "host.v1", "-f", "nowhere"] => ["cannot read nowhere"];
        1, ["create", "config", "x", "none.v1", "{}"] => ["no config-types found with id or name none.v1"];
        1, ["create", "config", "x", "host.v1", "{}"] => ["data \"protocol\" is required", "data \"port\" is required"];
        1, ["create", "config", "x", "host.v1", r#"{"protocol":"tcp","address":"a","port":70000}"#] => ["data.port 70000"];
        1, ["create", "config", "x", "intercept.v1", r#"{"protocols":["tcp"],"addresses":["a"],"portRanges":[{"low":"80","high":80}]}"#]
            => ["data.portRanges[0].low \"80\" is not of type"];
        1, ["create", "config", "x", "taken", "{}"] => ["data \"a\" is required"];
        1, ["create", "config", "taken", "scrape.v1", "{}"] => ["already a config named 'taken'"];
        2, ["create", "config-type"] => ["<NAME>"];
        2, ["create", "config-type", "x", "nonsense"] => ["invalid JSON", "Attempted to parse: nonsense"];
        2, ["create", "config-type", "x", "--target", "moon"] => ["moon"];
        1, ["create", "config-type", "x", r#"{"type":"nonsense"}"#] => ["the schema cannot be used"];
        1, ["create", "config-type", "host.v1"] => ["already a config-type named 'host.v1'"];
        2, ["create", "edge-router"] => ["<NAME>"];
        2, ["create", "edge-router", "x", "--cost", "much"] => ["much"];
        1, ["create", "edge-router", "taken", "-o", "new.jwt"] => ["already an edge-router named 'taken'"];
        1, ["create", "edge-router", "x", "-o", "text"] => ["text exists already"];
        2, ["create", "terminator"] => ["<SERVICE>", "--host"];
        2, ["create", "terminator", "taken", "taken", "tcp:a:1"] => ["--host"];
        2, ["create", "terminator", "taken", "taken", "tcp:a:1", "--host", "taken", "-c", "-1"] => ["-1"];
        2, ["create", "terminator", "taken", "taken", "tcp:a:1", "--host", "taken", "-p", "best"] => ["best"];
        1, ["create", "terminator", "nobody", "taken", "tcp:a:1", "--host", "taken"] => ["no services found", "nobody"];
        1, ["create", "terminator", "taken", "nobody", "tcp:a:1", "--host", "taken"] => ["no edge-routers found", "nobody"];
        1, ["create", "terminator", "taken", "taken", "tcp:a:1", "--host", "nobody"] => ["no identities found", "nobody"];
        2, ["create", "enrollment", "ott"] => ["<ID|NAME>"];
        2, ["create", "enrollment", "ott", "taken", "-d", "0"] => ["0 is not in 1..=44640"];
        1, ["create", "enrollment", "ott", "nobody"] => ["no identities found with id or name nobody"];
        1, ["create", "enrollment", "ott", "taken", "-o", "empty"] => ["empty exists already"];
        2, ["create", "enrollment", "erott", "taken", "-d", "x"] => ["x"];
        1, ["create", "enrollment", "erott", "nobody"] => ["no edge-routers found with id or name nobody"];
    }
}

fn create_policies() -> Vec<Case> {
    cases! {
        2, ["create", "service-policy"] => ["<NAME>", "<Bind|Dial>"];
        2, ["create", "service-policy", "x"] => ["<Bind|Dial>"];
        2, ["create", "service-policy", "x", "bind"] => ["Invalid policy type 'bind'. Valid values: [Bind, Dial]"];
        2, ["create", "service-policy", "x", "Dial", "--semantic", "OneOf"] => ["OneOf", "AnyOf, AllOf"];
        1, ["create", "service-policy", "taken", "Dial"] => ["already a service-policy named 'taken'"];
        1, ["create", "service-policy", "x", "Dial", "--service-roles", "@nobody"] => ["no services found with id or name nobody"];
        1, ["create", "service-policy", "x", "Dial", "--identity-roles", "@nobody"] => ["no identities found with id or name nobody"];
        1, ["create", "service-policy", "x", "Dial", "--service-roles", "taken"] => ["serviceRoles [taken]", "prefixed with #"];
        1, ["create", "service-policy", "x", "Dial", "--service-roles", "#all,#w"] => ["serviceRoles [#all,#w]", "only role"];
        1, ["create", "service-policy", "x", "Dial", "--identity-roles", "#"] => ["role entry '#' names nothing"];
        2, ["create", "edge-router-policy"] => ["<NAME>"];
        2, ["create", "edge-router-policy", "x", "--semantic", "allof"] => ["allof"];
        1, ["create", "edge-router-policy", "taken"] => ["already an edge-router-policy named 'taken'"];
        1, ["create", "edge-router-policy", "x", "--edge-router-roles", "@nobody"] => ["no edge-routers found with id or name nobody"];
        1, ["create", "edge-router-policy", "x", "--identity-roles", "#all,@taken"] => ["identityRoles", "only role"];
        2, ["create", "service-edge-router-policy"] => ["<NAME>"];
        2, ["create", "service-edge-router-policy", "x", "y"] => ["'y'"];
        1, ["create", "service-edge-router-policy", "taken"] => ["already a service-edge-router-policy named 'taken'"];
        1, ["create", "service-edge-router-policy", "x", "--service-roles", "w"] => ["serviceRoles [w]"];
    }
}

fn update() -> Vec<Case> {
    cases! {
        2, ["update", "identity"] => ["<ID|NAME>"];
        2, ["update", "identity", "taken"] => ["no change specified"];
        2, ["update", "identity", "taken", "--admin=perhaps"] => ["perhaps"];
        1, ["update", "identity", "nobody", "-a", "x"] => ["no identities found with id or name nobody"];
        1, ["update", "identity", "taken", "-n", ""] => ["name must not be empty"];
        1, ["update", "identity", "taken", "-n", "Default Admin"] => ["already an identity named 'Default Admin'"];
        1, ["update", "identity", "Default Admin", "--admin=false"] => ["admin"];
        2, ["update", "service", "taken"] => ["no change specified"];
        2, ["update", "service", "taken", "--terminator-strategy", "best"] => ["best"];
        1, ["update", "service", "taken", "-n", "second"] => ["already a service named 'second'"];
        1, ["update", "service", "taken", "-c", "nobody"] => ["no configs found with id or name nobody"];
        2, ["update", "config", "taken"] => ["no change specified"];
        2, ["update", "config", "taken", "-d", "{"] => ["invalid JSON"];
        1, ["update", "config", "taken", "-d", r#"{"protocol":"tcp","address":"a","port":"x"}"#] => ["data.port \"x\""];
        1, ["update", "config", "nobody", "-d", "{}"] => ["no configs found with id or name nobody"];
        2, ["update", "config-type", "taken"] => ["no change specified"];
        2, ["update", "config-type", "taken", "-s", "[]"] => ["a JSON object is needed"];
        1, ["update", "config-type", "taken", "-s", r#"{"type":7}"#] => ["the schema cannot be used"];
        1, ["update", "config-type", "host.v1", "-n", "x"] => ["config-type 'host.v1' is built in and cannot be changed"];
        2, ["update", "service-policy", "taken"] => ["no change specified"];
        2, ["update", "service-policy", "taken", "--semantic", "x"] => ["x", "AnyOf, AllOf"];
        1, ["update", "service-policy", "taken", "--service-roles", "w"] => ["serviceRoles [w]"];
        1, ["update", "service-policy", "taken", "--identity-roles", "@nobody"] => ["no identities found"];
        2, ["update", "edge-router", "taken"] => ["no change specified"];
        2, ["update", "edge-router", "taken", "--disabled=maybe"] => ["maybe"];
        1, ["update", "edge-router", "nobody", "--cost", "1"] => ["no edge-routers found with id or name nobody"];
        2, ["update", "edge-router-policy", "taken"] => ["no change specified"];
        1, ["update", "edge-router-policy", "taken", "--edge-router-roles", "#all,#x"] => ["edgeRouterRoles [#all,#x]"];
        2, ["update", "service-edge-router-policy", "taken"] => ["no change specified"];
        1, ["update", "service-edge-router-policy", "taken", "--service-roles", "@nobody"] => ["no services found"];
        2, ["update", "terminator", "x"] => ["no change specified"];
        2, ["update", "terminator", "x", "-p", "best"] => ["best"];
        1, ["update", "terminator", "nobody", "-c", "1"] => ["no terminators found with id or name nobody"];
    }
}

fn delete() -> Vec<Case> {
    cases! {
        2, ["delete", "identity"] => ["<ID|NAME>"];
        2, ["delete", "identity", ""] => ["<ID|NAME>"];
        2, ["delete", "identity", "where"] => ["'where' needs a filter"];
        1, ["delete", "identity", "nobody"] => ["Found 0 identities with id or name matching nobody"];
        1, ["delete", "identity", "nobody", "nobody"] => ["Found 0 identities with id or name matching nobody"];
        1, ["delete", "identity", "where", "name="] => ["INVALID_FILTER", "at position 6"];
        1, ["delete", "identity", "where", "not nome = \"x\""] => ["INVALID_FILTER", "no field 'nome'"];
        1, ["delete", "identity", "Default Admin"] => ["409 Conflict", "Default Admin"];
        1, ["delete", "service", "nobody"] => ["Found 0 services"];
        2, ["delete", "service", "taken", "--ignore-missing=x"] => ["--ignore-missing"];
        1, ["delete", "config", "taken"] => ["409 Conflict", "config 'taken' is in use by services: taken"];
        1, ["delete", "config", "nobody"] => ["Found 0 configs"];
        1, ["delete", "config-type", "host.v1"] => ["409 Conflict", "built in"];
        1, ["delete", "config-type", "nobody"] => ["Found 0 config-types"];
        1, ["delete", "service-policy", "nobody"] => ["Found 0 service-policies"];
        1, ["delete", "edge-router", "nobody"] => ["Found 0 edge-routers"];
        1, ["delete", "edge-router-policy", "nobody"] => ["Found 0 edge-router-policies"];
        1, ["delete", "service-edge-router-policy", "nobody"] => ["Found 0 service-edge-router-policies"];
        1, ["delete", "terminator", "nobody"] => ["Found 0 terminators"];
        1, ["delete", "enrollment", "nobody"] => ["Found 0 enrollments"];
        1, ["delete", "enrollment", "where", "limit x"] => ["INVALID_FILTER", "at position 7"];
    }
}

fn list() -> Vec<Case> {
    cases! {
        1, ["list", "identities", "name ="] => ["INVALID_FILTER", "at position 7", "expected a value"];
        1, ["list", "identities", "--role-filters", "@nobody"] => ["no identities found"];
        2, ["list", "identities", "--role-semantic", "x"] => ["x", "AnyOf, AllOf"];
        1, ["list", "services", "nome = \"x\""] => ["INVALID_FILTER", "no field 'nome'; there are id,"];
        1, ["list", "services", "name = \"a"] => ["at position 10", "a closing \""];
        1, ["list", "services", "true sort up name"] => ["at position 11", "expected 'by', found 'up'"];
        1, ["list", "services", "skip -1"] => ["at position 6", "a whole number"];
        1, ["list", "services", "--role-filters", "w"] => ["roleFilter [w]"];
        1, ["list", "services", "--as-identity", "nobody"] => ["no identities found"];
        2, ["list", "services", "true", "extra"] => ["'extra'"];
        2, ["list", "services", "--csv", "-j"] => ["cannot be used with"];
        2, ["list", "services", "--timeout", "0"] => ["0 is not in 1..=3600"];
        1, ["list", "configs", "("] => ["INVALID_FILTER", "at position 2"];
        1, ["list", "config-types", "name ~ 1"] => ["INVALID_FILTER"];
        1, ["list", "service-policies", "nobody"] => ["no field 'nobody'"];
        1, ["list", "edge-routers", "sort by nome"] => ["no field 'nome'"];
        2, ["list", "edge-routers", "--role-filters"] => ["--role-filters"];
        1, ["list", "edge-router-policies", "limit x"] => ["INVALID_FILTER"];
        1, ["list", "service-edge-router-policies", "name in"] => ["INVALID_FILTER"];
        1, ["list", "terminators", "cost >"] => ["INVALID_FILTER"];
        1, ["list", "enrollments", "true true"] => ["INVALID_FILTER", "at position 6"];
        1, ["list", "identity-role-attributes", "x = 1"] => ["no field 'x'"];
        1, ["list", "service-role-attributes", "name ="] => ["INVALID_FILTER"];
        1, ["list", "edge-router-role-attributes", "name ="] => ["INVALID_FILTER"];
        2, ["list", "summary", "extra"] => ["'extra'"];
        2, ["list", "identity", "nothing", "taken"] => ["'nothing'", "services"];
        2, ["list", "identity", "services"] => ["<ID|NAME>"];
        1, ["list", "identity", "services", "nobody"] => ["no identities found with id or name nobody"];
        2, ["list", "service", "configs"] => ["<ID|NAME>"];
        1, ["list", "service", "configs", "nobody"] => ["no services found"];
        1, ["list", "service", "configs", "taken", "name ="] => ["INVALID_FILTER"];
        1, ["list", "config", "services", "nobody"] => ["no configs found"];
        2, ["list", "config", "identities", "taken"] => ["'identities'"];
        1, ["list", "config-type", "configs", "nobody"] => ["no config-types found"];
        1, ["list", "service-policy", "services", "nobody"] => ["no service-policies found"];
        1, ["list", "edge-router", "identities", "nobody"] => ["no edge-routers found"];
        1, ["list", "edge-router-policy", "identities", "nobody"] => ["no edge-router-policies found"];
        1, ["list", "service-edge-router-policy", "services", "nobody"] => ["no service-edge-router-policies found"];
    }
}

fn others() -> Vec<Case> {
    cases! {
        2, ["show", "config"] => ["<ID|NAME>"];
        1, ["show", "config", "nobody"] => ["no configs found"];
        1, ["show", "config-type", "nobody"] => ["no config-types found"];
        1, ["policy-advisor", "identities", "nobody"] => ["no identities found"];
        1, ["policy-advisor", "identities", "taken", "nobody"] => ["no services found"];
        1, ["policy-advisor", "services", "nobody"] => ["no services found"];
        2, ["policy-advisor", "services", "taken", "taken", "taken"] => ["unexpected argument"];
        2, ["policy", "check"] => ["<FILE|DIR>"];
        1, ["policy", "check", "nowhere.yaml"] => ["cannot read nowhere.yaml: No such file"];
        1, ["policy", "check", "nowhere.yaml", "directory"] => ["nowhere.yaml: No such file", "directory directory holds no .yaml"];
        1, ["policy", "check", "text"] => ["text:1:1: a document must be a mapping", "begin with a section"];
        2, ["policy", "diff"] => ["<FILE|DIR>"];
        1, ["policy", "diff", "text"] => ["text:1:1: a document must be a mapping"];
        2, ["policy", "diff", "empty", "--prune"] => ["no file names its set", "set: NAME"];
        1, ["policy", "diff", "empty", "-i", "stranger"] => ["no login 'stranger'", "hesper edge login"];
        2, ["policy", "apply"] => ["<FILE|DIR>"];
        2, ["policy", "apply", "-"] => ["give --yes or --dry-run"];
        2, ["policy", "apply", "empty", "-j"] => ["give --yes or --dry-run"];
        2, ["policy", "apply", "empty", "--yes", "--dry-run"] => ["cannot be used with"];
        1, ["policy", "apply", "text", "--yes"] => ["text:1:1: a document must be a mapping"];
        1, ["policy", "apply", "nowhere.yaml", "--yes"] => ["cannot read nowhere.yaml"];
        2, ["policy", "export", "extra"] => ["'extra'"];
        1, ["policy", "export", "-i", "stranger"] => ["no login 'stranger'"];
        1, ["list", "certs", "nome = \"x\""] => ["INVALID_FILTER", "no field 'nome'"];
        2, ["controller", "ca", "rotate", "start", "extra"] => ["'extra'"];
        1, ["controller", "ca", "rotate", "start", "-i", "stranger"] => ["no login 'stranger'"];
        1, ["controller", "ca", "rotate", "issue"] => ["no rotation is under way: start one first"];
        1, ["controller", "ca", "rotate", "finish"] => ["no rotation is under way: start one first"];
        1, ["controller", "ca", "rotate", "rollback"] => ["no rotation is under way: start one first"];
        2, ["controller", "ca", "rotate", "status", "extra"] => ["'extra'"];
        2, ["revoke", "cert"] => ["<SERIAL>"];
        1, ["revoke", "cert", "../x"] => ["'../x' is no serial", "list certs"];
        1, ["revoke", "cert", "00ff"] => ["404", "no certificate with the serial 00ff was issued here"];
        1, ["events", "-i", "stranger"] => ["no login 'stranger'"];
        1, ["events", "--event", "dail"] => ["400 Bad Request, INVALID_FIELD", "there is no event 'dail'", "dial (circuit)"];
        1, ["events", "-f", "--event", "dail"] => ["there is no event 'dail'"];
        2, ["events", "--outcome", "ok"] => ["'ok'", "denied"];
        2, ["events", "--since", "yesterday"] => ["\"yesterday\" is no duration"];
        2, ["events", "-n", "4097"] => ["4097", "0..=4096"];
        2, ["dial", "taken"] => ["--identity"];
        1, ["dial", "taken", "-i", "nowhere"] => ["no identity file nowhere", "hesper edge enroll"];
        1, ["dial", "taken", "-i", "text"] => ["text is not an identity file"];
        2, ["trace"] => ["requires a subcommand", "dial"];
        2, ["trace", "dial", "taken"] => ["--identity"];
        2, ["trace", "dial", "taken", "-i", "text", "-n", "0"] => ["0"];
        1, ["trace", "dial", "taken", "-i", "text"] => ["text is not an identity file"];
        2, ["doctor", "--timeout", "soon"] => ["soon"];
        2, ["doctor", "extra"] => ["'extra'"];
        2, ["version", "extra"] => ["'extra'"];
        2, ["version", "--trace-exporter", "grpc://127.0.0.1:4317"] => ["--trace"];
        2, ["version", "--trace", "--trace-exporter", "ftp://x"] => ["'ftp://x' is no exporter URL", "grpc://HOST:PORT"];
        2, ["completion"] => ["<SHELL>"];
        2, ["completion", "tcsh"] => ["tcsh", "bash, zsh, fish"];
        2, ["enroll"] => ["<JWT"];
        2, ["enroll", "text", "-j", "text"] => ["cannot be used with"];
        2, ["enroll", "text", "-a", "RSA"] => ["RSA", "EC"];
        1, ["enroll", "nowhere"] => ["could not read nowhere"];
        1, ["enroll", "text"] => ["cannot enroll with text", "check that the file is whole"];
        1, ["enroll", "empty"] => ["cannot enroll with empty"];
        1, ["enroll", "directory"] => ["could not read directory"];
        1, ["enroll", "router.jwt"] => ["the token of an edge router: use 'hesper router enroll'"];
        1, ["enroll", "identity.jwt", "-o", "text"] => ["text exists already and is not overwritten"];
        1, ["enroll", "identity.jwt", "-o", "nowhere/x.json"] => ["could not write nowhere/x.json"];
        2, ["login", "http://ctrl"] => ["only https is spoken"];
        2, ["login", "a b"] => ["'a b' is no controller address"];
        2, ["login", "$CONTROLLER", "-c", "text"] => ["--client-key"];
        2, ["login", "$CONTROLLER", "-p", "x", "--password-file", "y"] => ["cannot be used with"];
        2, ["login", "$CONTROLLER", "-u", "admin"] => ["no password: set HESPER_PASSWORD"];
        2, ["login", "$CONTROLLER"] => ["no user name: give it with -u"];
        1, ["login", "127.0.0.1:1", "-u", "x"] => ["cannot talk to the controller at https://127.0.0.1:1/: Connection refused"];
        1, ["login", "$CONTROLLER", "-u", "x", "--password-file", "nowhere"] => ["cannot read nowhere"];
        1, ["login", "$CONTROLLER", "-u", "x", "--password-file", "empty"] => ["empty", "no password"];
        1, ["login", "$CONTROLLER", "-u", "x", "--ca", "text"] => ["text", "no CA certificates"];
        1, ["login", "$CONTROLLER", "-u", "x", "--password-file", "password.txt", "--ca", "initialised/pki/ca.pem"]
            => ["is not from the trusted authority", "check the address and --ca"];
        1, ["login", "$CONTROLLER", "-u", "x", "--password-file", "password.txt"] => ["401 Unauthorized: wrong username or password"];
        1, ["login", "$CONTROLLER", "-f", "text"] => ["text is not an identity file"];
        1, ["login", "$CONTROLLER", "-f", "wrong-key.json"] => ["certificate is not usable"];
        1, ["login", "$CONTROLLER", "-c", "text", "-k", "text"] => ["the client certificate is not usable"];
        2, ["logout", "extra"] => ["'extra'"];
        1, ["logout", "-i", "stranger"] => ["no login 'stranger'"];
    }
}

/// The commands that would keep running.
pub(crate) fn long_lived() -> Vec<Case> {
    cases! {
        2, ["controller", "init"] => ["--home"];
        2, ["controller", "init", "--home", "new", "--ctrl-port", "70000"] => ["70000"];
        1, ["controller", "init", "--home", "initialised"] => ["initialised is initialised already"];
        1, ["controller", "init", "--home", "text"] => ["text", "File exists"];
        1, ["controller", "init", "--home", "new", "--ctrl-address", "no name"] => ["neither a DNS name nor an IP address"];
        1, ["controller", "init", "--home", "new", "--trust-domain", "A B"] => ["trust domain"];
        1, ["controller", "init", "--home", "new", "--password-file", "empty"] => ["empty", "no password"];
        1, ["controller", "init", "--home", "new", "-u", ""] => ["username"];
        2, ["controller", "run"] => ["--home"];
        2, ["controller", "run", "--home", "directory", "--listen", "nowhere"] => ["nowhere"];
        2, ["controller", "run", "--home", "directory", "--audit-file-size", "100"] => ["\"100\" is no size", "100MiB"];
        1, ["controller", "run", "--home", "initialised", "--audit-file-size", "1KiB"] => ["audit files of 1KiB are too small", "64KiB"];
        1, ["controller", "run", "--home", "initialised", "--audit-files", "1"] => ["1 audit files are not possible", "2 to 1000"];
        1, ["controller", "run", "--home", "directory"] => ["directory is no controller's home", "hesper controller init --home directory"];
        1, ["controller", "run", "--home", "new"] => ["new is no controller's home"];
        1, ["controller", "run", "--home", "initialised", "--listen", "$CONTROLLER"] => ["cannot listen on $CONTROLLER"];
        2, ["router", "enroll"] => ["<JWT>", "--home"];
        1, ["router", "enroll", "nowhere", "--home", "new"] => ["could not read nowhere"];
        1, ["router", "enroll", "text", "--home", "new"] => ["cannot enroll with text"];
        1, ["router", "enroll", "identity.jwt", "--home", "new"] => ["cannot enroll with identity.jwt"];
        2, ["router", "run", "--home", "directory"] => ["--advertise"];
        2, ["router", "run", "--home", "directory", "--advertise", "a b:1"] => ["HOST:PORT"];
        1, ["router", "run", "--home", "directory", "--advertise", "127.0.0.1:9"] => ["hesper router enroll"];
        1, ["router", "run", "--home", "new", "--advertise", "127.0.0.1:9"] => ["hesper router enroll"];
        1, ["quickstart", "--home", "new", "--ctrl-port", "$TCP"] => ["cannot listen on TCP", "$TCP", "--ctrl-port"];
        1, ["quickstart", "--home", "new", "--ctrl-port", "0", "--router-port", "$UDP"] => ["cannot listen on UDP", "$UDP", "--router-port"];
        1, ["quickstart", "--home", "text", "--ctrl-port", "0", "--router-port", "0"] => ["text"];
        1, ["quickstart", "--home", "new", "--ctrl-port", "0", "--router-port", "0", "--trust-domain", "A B"] => ["trust domain"];
        2, ["quickstart", "--router-address", "a b"] => ["neither a DNS name nor an IP address"];
        2, ["quickstart", "--instance-id", ""] => ["--instance-id"];
        2, ["quickstart", "--configure-and-exit"] => ["--home"];
        2, ["tunnel", "host"] => ["--identity"];
        1, ["tunnel", "host", "-i", "nowhere"] => ["no identity file nowhere", "hesper edge enroll"];
        1, ["tunnel", "host", "-i", "text"] => ["text is not an identity file"];
        1, ["tunnel", "host", "-i", "object.json"] => ["object.json is not an identity file", "ztAPI"];
        1, ["tunnel", "host", "-i", "wrong-key.json"] => ["the identity cannot be used"];
        1, ["tunnel", "host", "-i", "new", "--jwt", "text"] => ["cannot enroll with text"];
        2, ["tunnel", "proxy", "-i", "text"] => ["SERVICE:PORT"];
        2, ["tunnel", "proxy", "-i", "text", "web"] => ["'web' is not SERVICE:PORT"];
        2, ["tunnel", "proxy", "-i", "text", "web:70000"] => ["'web:70000'"];
        2, ["tunnel", "proxy", "-i", "text", ":80"] => ["':80'"];
        2, ["tunnel", "proxy", "-i", "text", "web:53:icmp"] => ["SERVICE:PORT:tcp or SERVICE:PORT:udp"];
        2, ["tunnel", "proxy", "-i", "text", "web:0", "--bind", "nowhere"] => ["nowhere"];
        1, ["tunnel", "proxy", "-i", "text", "web:$TCP"] => ["cannot listen on 127.0.0.1:$TCP for service 'web'"];
        1, ["tunnel", "proxy", "-i", "text", "web:0"] => ["text is not an identity file"];
        2, ["tunnel", "run", "-i", "text", "--proxy", "9180"] => ["9180"];
        1, ["tunnel", "run", "-i", "nowhere"] => ["no identity file nowhere"];
        1, ["tunnel", "run", "-i", "text"] => ["text is not an identity file"];
        2, ["collect"] => ["--config"];
        1, ["collect", "--config", "nowhere"] => ["cannot read the configuration nowhere"];
        1, ["collect", "--config", "text"] => ["text:1:1"];
        1, ["collect", "--check", "--config", "empty"] => ["there is no configuration here"];
        2, ["collect", "--check", "--config", "collect.yaml", "-i", "text"] => ["--check"];
        2, ["collect", "--config", "collect.yaml", "--jwt", "text"] => ["--identity"];
        1, ["collect", "--config", "collect.yaml"] => ["hesper://otlp is in the mesh", "-i FILE"];
        1, ["collect", "--config", "collect.yaml", "-i", "text"] => ["text is not an identity file"];
        1, ["collect", "--config", "collect.yaml", "--audit", "directory"] => ["cannot write the audit events to directory"];
        2, ["collect", "--config", "collect.yaml", "--audit-files", "0"] => ["0 audit files are not possible"];
        2, ["collect", "ledger"] => ["--config"];
        1, ["collect", "ledger", "--config", "nowhere"] => ["cannot read the configuration nowhere"];
        1, ["collect", "ledger", "--config", "collect.yaml"] => ["there is no ledger", "file_storage"];
        2, ["collect", "forget", "--config", "collect.yaml"] => ["--pipeline"];
        1, ["collect", "forget", "--config", "collect.yaml", "--pipeline", "logs", "--exporter", "x"] => ["no pipeline 'logs'"];
        1, ["collect", "forget", "--config", "collect.yaml", "--pipeline", "traces", "--exporter", "x"] => ["no queue on disk"];
        2, ["demo", "extra"] => ["'extra'"];
    }
}
