//! Bad files, each with its one fault. Tried here as text, and by `integration/` through the command line.

/// A file and the beginning of its one fault.
pub(crate) const BAD_FILES: &[(&str, &str)] = &[
    // YAML
    ("services: [", "f.yaml:2:1: this is not YAML: "),
    ("services:\n  - name: @x\n", "f.yaml:2:11: this is not YAML: "),
    ("services:\n\t- name: x\n", "f.yaml:2:2: this is not YAML: "),
    (
        "services: []\nservices: []\n",
        "f.yaml:2:1: 'services' is here twice, the first time in line 1; keep one of them",
    ),
    ("services: [{name: !x y}]\n", "f.yaml:1:19: the YAML tag !x is not known here; leave it out"),
    ("services: [{[a]: b, name: x}]\n", "f.yaml:1:13: a list cannot be a key; a key is a word"),
    // Documents and sections
    (
        "just words\n",
        "f.yaml:1:1: a document must be a mapping, not \"just words\"; begin with a section such as `services:`",
    ),
    ("- a\n", "f.yaml:1:1: a document must be a mapping, not a list"),
    (
        "servicePolicies: []\n",
        "f.yaml:1:1: 'servicePolicies' is no section; did you mean 'service-policies'?",
    ),
    (
        "colours: []\n",
        "f.yaml:1:1: 'colours' is no section; the sections are config-types, configs, identities,",
    ),
    ("terminators: []\n", "f.yaml:1:1: terminators cannot be declared; nodes make them when they bind"),
    ("enrollments: []\n", "f.yaml:1:1: enrollments cannot be declared; 'policy apply --jwt-dir DIR' writes"),
    (
        "services: {name: x}\n",
        "f.yaml:1:11: services must be a list, not a mapping; write each entry as `- name: …`",
    ),
    (
        "services: [x]\n",
        "f.yaml:1:12: an entry of services must be a mapping, not \"x\"; write it as `- name: …`",
    ),
    ("set: [a]\n", "f.yaml:1:6: set must be a text, not a list; put it in quotes"),
    ("set:\n", "f.yaml:1:4: set is empty"),
    // Fields
    (
        "identities: [{name: x, roleAttribute: [a]}]\n",
        "f.yaml:1:24: 'roleAttribute' is no field of an identity; did you mean 'roleAttributes'?",
    ),
    (
        "identities: [{name: x, id: abc}]\n",
        "f.yaml:1:24: 'id' is no field of an identity; leave it out: files name things",
    ),
    ("services: [{configs: []}]\n", "f.yaml:1:12: this service has no name; add `name:`"),
    ("services: [{name: 7}]\n", "f.yaml:1:19: name must be a text, not 7; put it in quotes"),
    ("services: [{name: ' x'}]\n", "f.yaml:1:19: name begins or ends with a space; choose another name"),
    ("services: [{name: \"a\\tb\"}]\n", "f.yaml:1:19: name contains control characters"),
    (
        "services: [{name: x}, {name: x}]\n",
        "f.yaml:1:23: service 'x' is declared twice, the first time at f.yaml:1:12; keep one of them",
    ),
    (
        "identities: [{name: x, permissions: [telemetry.read]}]\n",
        "f.yaml:1:38: permissions cannot be 'telemetry.read'; the choices are telemetry.forward",
    ),
    ("identities: [{name: x, isAdmin: yes}]\n", "f.yaml:1:33: isAdmin is \"yes\"; write true or false"),
    (
        "edge-routers: [{name: x, cost: 70000}]\n",
        "f.yaml:1:32: cost is 70000; write a whole number from 0 to 65535",
    ),
    (
        "services: [{name: x, terminatorStrategy: weight}]\n",
        "f.yaml:1:42: terminatorStrategy cannot be 'weight'; did you mean 'weighted'?",
    ),
    (
        "services: [{name: x, encryptionRequired: false}]\n",
        "f.yaml:1:42: every stream is encrypted end to end",
    ),
    (
        "identities: [{name: x, roleAttributes: ['#a']}]\n",
        "f.yaml:1:41: the role attribute '#a' begins with # or @; leave the sign out",
    ),
    (
        "services: [{name: x, tags: [a]}]\n",
        "f.yaml:1:28: tags must be a mapping, not a list; write it as {key: value}",
    ),
    (
        "services: [{name: x, tags: {policySet: y}}]\n",
        "f.yaml:1:29: the tag policySet is kept by 'policy apply' itself; say `set: NAME`",
    ),
    ("service-policies: [{name: x}]\n", "f.yaml:1:20: type is missing; write `type: Dial` or `Bind`"),
    (
        "service-policies: [{name: x, type: dial}]\n",
        "f.yaml:1:36: type cannot be 'dial'; did you mean 'Dial'?",
    ),
    // Roles and references
    (
        "service-policies:\n  - name: x\n    type: Dial\n    identityRoles: #all\n",
        "f.yaml:4:18: identityRoles must be a list, not nothing; write [] for none; what begins with # must be in quotes",
    ),
    (
        "edge-router-policies: [{name: x, identityRoles: [clients]}]\n",
        "f.yaml:1:50: 'clients' is no role; write \"@clients\" for the identity of that name, \"#clients\" for the attribute",
    ),
    (
        "edge-router-policies: [{name: x, identityRoles: ['#all', '#a']}]\n",
        "f.yaml:1:49: identityRoles: if using #all, it should be the only role specified; leave #all or the others out",
    ),
    (
        "edge-router-policies: [{name: x, identityRoles: ['@']}]\n",
        "f.yaml:1:50: the role '@' names nothing; write a name behind it",
    ),
    (
        "identities: [{name: grafana}]\nedge-router-policies: [{name: x, identityRoles: ['@grafna']}]\n",
        "f.yaml:2:50: there is no identity 'grafna' in these files; did you mean 'grafana'?",
    ),
    (
        "services: [{name: x, configs: [y]}]\n",
        "f.yaml:1:32: there is no config 'y' in these files; declare it under configs, or give the file that does too",
    ),
    (
        "configs: [{name: x, configType: host.v3, data: {}}]\n",
        "f.yaml:1:33: there is no config-type 'host.v3' in these files; did you mean 'host.v",
    ),
    (
        "services: [{name: x, configs: [a, b]}]\nconfigs: [{name: a, configType: scrape.v1, data: {}}, {name: b, configType: scrape.v1, data: {}}]\n",
        "f.yaml:1:31: a service may have one config of each type, but 'a' and 'b' are both scrape.v1",
    ),
    // Data and schemas
    ("configs: [{name: x, configType: host.v1}]\n", "f.yaml:1:11: data is missing; add `data:`"),
    (
        "configs: [{name: x, configType: host.v1, data: [1]}]\n",
        "f.yaml:1:48: data must be a mapping, not a list",
    ),
    (
        "configs:\n  - name: x\n    configType: host.v1\n    data:\n      protocol: tcp\n      address: a\n      port: 70000\n",
        "f.yaml:7:13: the data of config 'x' does not fit host.v1: port: 70000 is greater than the maximum of 65535; 'hesper show config-type host.v1' prints",
    ),
    (
        "configs:\n  - name: x\n    configType: scrape.v1\n    data: {path: /m, colour: red}\n",
        "f.yaml:4:22: the data of config 'x' does not fit scrape.v1: \"colour\" is not known here",
    ),
    (
        "configs:\n  - name: x\n    configType: otlp.v1\n    data:\n      rules:\n        - identities: ['#edge']\n          signals: [span]\n",
        "f.yaml:7:21: the data of config 'x' does not fit otlp.v1: rules[0].signals[0]: \"span\" is not one of \"traces\"",
    ),
    (
        "config-types: [{name: x, schema: {type: nonsense}}]\n",
        "f.yaml:1:34: the schema of config-type 'x': the schema cannot be used",
    ),
    (
        "config-types: [{name: host.v1}]\n",
        "f.yaml:1:23: config-type 'host.v1' is built in and cannot be declared; choose another name",
    ),
    // Tests
    ("tests: {a: b}\n", "f.yaml:1:8: tests must be a list, not a mapping"),
    ("tests: [x]\n", "f.yaml:1:9: a test must be a mapping, not \"x\""),
    ("tests: [{can-dial: x}]\n", "f.yaml:1:9: this test names no identity; add `identity:`"),
    (
        "identities: [{name: x}]\ntests: [{identity: x}]\n",
        "f.yaml:2:9: this test tests nothing; add `can-dial:`",
    ),
    (
        "identities: [{name: x}]\ntests: [{identity: x, canDial: y}]\n",
        "f.yaml:2:23: 'canDial' is no word of a test; did you mean 'can-dial'?",
    ),
    (
        "identities: [{name: x}]\ntests: [{identity: x, can-dial: nowhere}]\n",
        "f.yaml:2:33: there is no service 'nowhere' in these files",
    ),
    ("tests: [{identity: x, can-dial: '#a'}]\n", "f.yaml:1:20: there is no identity 'x' in these files"),
    (
        "identities: [{name: x}]\ntests: [{identity: x, cannot-dial: []}]\n",
        "f.yaml:2:36: cannot-dial names nothing; leave it out",
    ),
    (
        "identities: [{name: x}]\ntests: [{identity: x, cannot-dial: '#all', via: '#all'}]\n",
        "f.yaml:2:9: `via` without anything that can be dialed or bound",
    ),
];
