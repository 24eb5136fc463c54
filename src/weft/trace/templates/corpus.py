"""Made-up log lines and outputs of commands, each word with its true tag: what the tagger is trained on.

A pattern is text with slots `{CAT.kind}` (kinds: `values.MAKERS`), choices `(a|b)` and `~`, a word of no language, so
that the tagger learns from a word's surroundings, not from its letters. No line of a published data set is here.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from random import Random

from weft.core.lines.words import is_word, split
from weft.trace.templates.values import MAKERS, word

PATTERNS = r"""
Connection from {LOI.ip} port {LOI.port} (closed|refused|accepted|reset)
(Accepted|Opened|Closed|Dropped) (connection|session|socket) (from|to|for) {LOI.slaship}
login of user {OBN.user} (failed|succeeded) after {OBA.small} attempts
(unknown|invalid|illegal) (user|account) {OBN.user} from {LOI.host}
session {OID.id} (opened|closed) for user {OBN.user}
user={OBN.user} uid={OID.int} gid={OID.int} pid={OID.int} host={LOI.host}
uid={OID.small} shell={LOI.path} from={LOI.ip} name={OBN.user}
{LOI.ip} - - "{TID.verb} {LOI.path} HTTP/{OTP.decimal}" {STC.http} {CRS.bytes} "-"
{TID.verb} {LOI.path} {STC.http} {TDA.ms}
{TID.verb} {LOI.uri} returned {STC.http} in {TDA.ms}
request {OID.uuid} took {TDA.seconds} (ms|seconds|s)
[request {OID.id}] (started|finished|cancelled) in {TDA.seconds} seconds
[~: {OID.uuid}] ~ (paused|resumed|stopped|started) (successfully|unexpectedly)
[pid {OID.int}] (worker|child|thread) exited with (status|code) {STC.code}
worker {OID.small} (started|stopped|died) (pid {OID.int})
process {OID.int} (killed|terminated) by signal {STC.small}
Process {OBN.name} (pid {OID.int}) has died
exit (status|code) {STC.code}
command exited with status {STC.code} after {TDA.ms}
~ failed with error code {STC.code}
~ ~ failed (error {STC.code}) on ~
returned error {STC.errhex}
errno={STC.code} ({STC.errno}) while (reading|writing) {LOI.path}
rc={STC.code} retries={OBA.small} delay={TDA.seconds}
status={STC.code} ~={OTP.int} ~={OTP.decimal}
result: {STC.code}, ~: {OTP.int}
~ returned {STC.code}
loaded {OBA.int} (rows|records|entries|items|modules|rules) in {TDA.seconds} (ms|seconds)
(Loaded|Read|Wrote|Sent|Deleted|Skipped) {OBA.int} (files|packets|blocks|messages|objects)
wrote {CRS.bytes} bytes to {LOI.path}
{CRS.bytes} bytes (sent|received|written|copied) to {LOI.ipport}
transferred {CRS.size} in {TDA.ms} ({CRS.size}/s)
(Assigned|Released|Requested) (container|task|slot) {OID.joined} (to|on) {OID.joined}
~ {OID.joined} (transitioned|moved|went) from ~ to ~
~ {OID.joined} ~ from RUNNING to DONE
Task {OID.joined} is (done|running|pending|committed)
{OID.joined}: ~ed
~ {OID.joined} has (started|stopped|failed)
job {OID.joined} (submitted|queued|finished) by {OBN.user} on {LOI.host}
job {OBN.name} (enabled|disabled) on host {LOI.host}
(memory|heap|cache) (used|free|total|limit)={CRS.int} (kB|MB|bytes)
Memory: {CRS.size} used of {CRS.size}
free memory {CRS.int} MB, used {CRS.int} MB, swap {CRS.size}
Total (cpus|slots|workers): {OBA.int} used, {OBA.int} free
{OTP.percent} of disk {LOI.path} used
disk {OBN.unitid} at {OTP.percent}, {CRS.size} free
cpu {OID.small} at {OTP.hex} ~ {OTP.hex}
CPU {OID.small} is now offline
~ frequency {OTP.decimal} MHz
{OBN.unitid}: link (up|down|lost), {OTP.int} Mbps
{OBN.unitid}: (registered|renamed|removed) ~ {LOI.mac}
{OBN.unitid} (up|down)
eth{OTP.small}: ~ (link up|link down)
(PCI|USB|ACPI): (device|bridge|interrupt) {LOI.pci} ~ irq {OID.small}
{LOI.pci}: ~ ~ base {LOI.hex} size {CRS.hex}
IRQ {OID.small} ~ at {LOI.hex}
~ ~ at I/O {LOI.hex} (irq = {OID.small})
total of {OBA.int} ~ ~ in {TDA.int} seconds
~: {OBA.int} (warnings|errors|failures|retries)
~ register: {OTP.hex}
~ pointer: {LOI.hex}
~ dumped to dump.{OID.int}
binary {LOI.path} (loaded|failed|missing): ~ ~ ~
Error (reading|loading|opening) {LOI.path}: (no such ~|~ denied|~ ~)
(cannot|could not|unable to) (open|read|find|load) (file|module|library|configuration) {LOI.path}
(opening|Opened|Reading) configuration {LOI.path}
node {LOI.host} has joined cluster {OBN.name}
pool {OBN.name} is (full|busy|closed)
{LOI.coord} ~ was (started|replaced)
Retrying in {TDA.seconds} s (attempt {OBA.small} of {OBA.small})
Will retry after {TDA.int} seconds
timed out after {TDA.seconds} (seconds|ms|s)
~ timeout: {TDA.int}
~ time out: {TDA.int}
deadline exceeded: {TDA.ms}
leader (elected|lost): {OID.small}, epoch {OID.int}, took {TDA.int}
~ set to {OTP.int}
~.~ = {OTP.int}
~.~ set to {OTP.int}
~~={OTP.int}
listening on {LOI.ipport}
(Bound|Binding) to port {LOI.port}
server (started|listening) at {LOI.uri}
starting ~ port {LOI.port} max {OBA.int}
dns lookup of {LOI.domain} failed
name {LOI.domain} [{LOI.ip}] does not resolve - ~ ~!
time offset {TDA.decimal} s
(to|from|for) {OBN.user} (called|seen|noted)
mail from <{LOI.mail}> (queued|bounced) as {OID.letterid}
to=<{LOI.mail}>, delay={TDA.clock}, relay={LOI.domain}, dsn={STC.version}, stat=~
{OID.digest}: (from|to)=<{LOI.mail}>, size={CRS.bytes}, class={OTP.small}
is{OTP.small}~: {SID.bool}
~ = {SID.bool}, ~ = {SID.bool}
~ (mode|flag|option|state) {SID.bool}
(set|changed) ~ to {SID.bool}
activity {OBN.component} (resumed|paused|destroyed)
battery level: {OTP.percent}, temperature {OTP.decimal}
time = {TDA.stamp}, ~ start {TDA.stamp}
report: {OTP.int} {OTP.int} {OTP.int} {OTP.int}
flush {OBA.int}, {OBA.small}, {OBA.small}
values ({OTP.decimal}, {OTP.decimal}, {OTP.signed})
version {OTP.version} (of|for|by) ~ (installed|found|required)
using ~ {OTP.version}
package {OBN.name} version {OTP.version} ~
~ interface {OBN.unitid} ~ state {SID.bit}
~ ~ ~ index {OTP.small} for {LOI.path}
~ has (wrong|bad|unknown) ~ ~ {OTP.int}
(process|thread|app) ~ {OBN.name}[{OID.int}] ~ ~ {OTP.int}
{OBN.Name}: (started|created) ~ {OID.int}
Collecting {OBN.name}
Collecting {OBN.name}>={OTP.version} (from {OBN.name})
Downloading {OBN.name}-{OTP.version}.tar.gz ({CRS.size})
Requirement already satisfied: {OBN.name}>={OTP.version} in {LOI.path} (from {OBN.name}) ({OTP.version})
Successfully installed {OBN.name}-{OTP.version}
{OBA.small} (passed|failed|skipped), {OBA.small} (warnings|errors|skipped) in {TDA.decimal}s
{LOI.relative}::test_{OBN.name} PASSED [ {OTP.percent}]
{LOI.relative}:{LOI.int}: (error|warning|note): ~ ~ ~
{LOI.relative}:{LOI.int}:{LOI.small}: {STC.errno} ~ ~ ~ ~
File "{LOI.path}", line {LOI.int}, in {OBN.name}
{OID.short} (Fix|Add|Remove|Merge) ~ ~ ~
index {OID.short}..{OID.short} {OTP.int}
commit {OID.digest}
drwxr-xr-x {OBA.small} {OBN.user} {OBN.user} {CRS.bytes} ~ {TDA.small} {TDA.clock} {LOI.file}
added {OBA.int} packages, and audited {OBA.int} packages in {TDA.ms}
Step {OTP.small}/{OTP.small} : RUN ~ ~
[{OTP.small}/{OTP.small}] (Compiling|Building|Linking) {LOI.relative}
make[{OTP.small}]: *** [{OBN.name}] Error {STC.small}
Ran {OBA.int} tests in {TDA.decimal}s
epoch {OTP.small}/{OTP.small} loss={OTP.decimal} acc={OTP.decimal}
{TDA.date} {TDA.clock} (INFO|WARN|ERROR|DEBUG) ~ ~ ~
Created ~ directory at {LOI.path}
(driver|master|agent) address {LOI.uri}
Finished ~ for {OID.joined}
~ queue: {OBN.name}
(Cleaned|expired) {OBA.int} (sessions|entries|locks) older than {TDA.int} (days|hours|s)
table {OBN.name} has {OBA.int} rows, {CRS.size}
slow query ({TDA.ms}): SELECT ~ FROM {OBN.name}
checkpoint complete: wrote {OBA.int} buffers ({OTP.percent}); write={TDA.decimal} s
replica {LOI.ipport} lag {TDA.int} ms
shard {OID.small} moved from {LOI.host} to {LOI.host}
tenant {OID.uuid} (quota|usage) {CRS.size}
(the|this|that|no|bad|each) (user|host|node|job|file|port|session|status|size|path|address|name|type|id) (is|was|not|~|and|has) ~
(user|host|node|job|file|port|session|status|size|path|name|type|key) ~ing ~
(user|host|node|job|file|port|session|size|path|name|type|key)-~ ~ ~
~_~() ~ ~ {OID.int} ~
~.~() ~ {OTP.small}
~~.~~: ~ {OTP.int}
~2_~() ~ ~
~.~~: ~ ~: {LOI.ipport} ~ {OID.joined}
~ ~ ~..........{OTP.int}
~ ~ ~........{OTP.int}
(mode|state|level|phase) ~ ~ r-w ~
~ already ~: {OID.uuid}
[-] ~ ~ ~ ~
backup of {LOI.path} by {OBN.user} ended: {CRS.size} in {TDA.seconds} s
peer {LOI.ipport} (joined|left|lost), {OBA.small} peers now
peer {LOI.slaship} asked for object {OID.joined}, {CRS.bytes} bytes
tunnel {LOI.hostport} via {LOI.hostport} up for {TDA.minutes}, in {CRS.bytes} out {CRS.bytes}
moved to {LOI.hostipport}
Plugin {OBN.class} enabled={SID.bool} order={OTP.small}
feature ~ is {SID.bool} for {OBN.user}
dark mode {SID.bool}, sound {SID.bool}, brightness {OTP.small}
app {OBN.package} (uid {OID.int}) wants {OTP.hex}
sensor {OID.small}: {OTP.decimal} C, {OTP.int} rpm, {OTP.decimal} V
heap {CRS.int}k of {CRS.int}k, {OBA.int} objects
<usage cpu:{OTP.decimal}, mem:{CRS.int}>
free space {CRS.decimal} GB of {CRS.decimal} GB
{OBA.int} ~ drops on queue {OID.small} since {TDA.clock}
{OBA.int} ~ ~ seen on ring {OID.small}, lane {OID.small}
register dump: r{OTP.small}={OTP.hex} sp={LOI.hex} pc={LOI.hex}
kernel built by {OBN.mail} with compiler {OTP.version}
(printer|scanner)-{OID.small} is (idle|out of ~)
"{OBN.name}" is not a ~ of {OBN.name}
lid angles ( {OTP.small} {OTP.small} {OTP.small} )
order {OID.joined} (cancelled|shipped) due to ~ ~
ticket ({OID.int}) ~
call {OID.hex} from {LOI.slaship} lasted {TDA.int}
replay {OID.hex} kind:{TID.type} at:{LOI.path}
vote {OID.small} (mine), {OID.hex} (theirs), {OID.small} (round)
Old value: {OTP.int} New value: {OTP.int}
cron ran {LOI.path} as {OBN.user}, code {STC.code}
key {OID.int}|{OBN.name}|{OID.int}
sample#{OTP.int}#{OTP.int}#{OTP.stamp}
clock skew to {LOI.host} is {TDA.decimal} s
{OBN.unitid} carrier (on|off)
{OBN.user} ({LOI.domain}) wrote {OBA.small} pages
~~@{LOI.hex}: ~ ~
~: {TDA.decimal}: ~ ~ {OTP.int}
update {OTP.version} of {OBN.Name} (ready|staged)
error ({STC.errhex}) while ~ing ~
rule {OID.small} deny {OBN.name}({OID.int}) ~ {LOI.path}
(scan|sync|index) of volume {OBN.name} at {OTP.percent}
~ of {OBN.user} (is|was) ~
(a|one|no) user ~ ~
~ user ~ing ~ ~
~ ~ ~; user ~ing
{LOI.ipport}:~ {OID.joined}
bool ~::~(~&, ~*)
(importing|using) class ~.~.~.~~
HTTP {STC.http} for {LOI.uri} after {OBA.small} tries
~ between STEP_~ and STEP_~
(Using cached|Downloading|Downloaded|Fetching) {LOI.wheel} ({CRS.decimal} (kB|MB))
(Using cached|Downloading|Created) {LOI.wheel}
-rw-r--r-- {OBA.small} {OBN.user} {OBN.user} {CRS.bytes} {TDA.month} {TDA.small} {TDA.minutes} {LOI.file}
drwxr-xr-x {OBA.small} {OBN.user} {OBN.user} {CRS.bytes} {TDA.month} {TDA.small} {TDA.minutes} {LOI.name}
total {CRS.int}
plugins: {OBN.pinned}, {OBN.pinned}, {OBN.pinned}
{LOI.relative} ..... [ {OTP.percent}]
{LOI.relative}:{LOI.int}:    ~ ~
{LOI.relative} | {OBA.small} +-
Author: ~ ~ <{OBN.mail}>
Date:   ~ {TDA.month} {TDA.small} {TDA.clock} {TDA.small}
(there|this|it|that) is (no|an|a|the|not|only) ~ (for|of|in|by|with|on) ~
(~|it|node) is no longer ~ (by|on|in) ~
~=(on|off|yes|no)
~ connection (reset|closed|refused) by peer
"""
LEVELS = ("", "", "", "", "", "INFO ", "WARN: ", "error: ", "[notice] ", "DEBUG ", "~: ", "~[{OID.int}]: ", "~~.~: ")
_SLOT = re.compile(r"\{([A-Z]{3})\.(\w+)\}")
_PART = re.compile(r"\{[A-Z]{3}\.\w+\}|~|\((?:[^()|{}]+\|)+[^()|{}]*\)")
COMMON = (
    "the a to of in on for with and is not no be was has by at from as an all new old failed error start end done ready client server "
    "service request response message queue event handler state system device driver module kernel network interface cache index "
    "update check set get init load save open close read write send receive create delete register process thread lock wait "
    "waiting received sending starting stopping starting closing found missing invalid unknown failure warning success "
    "successfully already could cannot unable because while during after before instance manager resource scheduler node user host job file port session status size path address name type id key code time version level data task"
).split()


def made(count: int, seed: int = 0, novel: float = 0.5) -> Iterator[list[tuple[str, str]]]:
    """`count` lines, each as pieces with their tag: "" for static words. `novel`: how many are random sentences."""
    r = Random(seed)
    patterns = [one for one in PATTERNS.strip().splitlines() if one]
    for _ in range(count):
        pattern = _sentence(r) if r.random() < novel else r.choice(patterns)
        yield _tagged(r.choice(LEVELS) + pattern, r)


_NAMED = (
    ("OID int small big id joined hex", "id pid uid gid tid session task job block container attempt thread child process node slot rank "
     "cpu command request transaction stage worker lock handle token account unit cookie zone row record order shard replica epoch "
     "application partition segment message instance core device executor controller txn object"),
    ("TDA int seconds ms decimal", "time timeout duration elapsed delay period interval sleep latency age uptime lifetime ttl wait took deadline "
     "timestamp tick expiry total-time lag backoff runtime"),
    ("OBA int small thousands", "count num total attempts retries tries errors failures entries connections threads packets sessions workers "
     "items users pages rows tasks files limit max number-of tasks-done pending completed assigned scheduled requests"),
    ("CRS bytes int size", "bytes memory size mem heap free used capacity disk len length space buffer swap rss payload quota"),
    ("STC code http errhex errno", "status code error errno rc exit result reason signal state return exit-code status-code"),
    ("LOI port", "port"), ("LOI ip host ipport hostport slaship", "address addr host server src dest peer client remote endpoint gateway proxy"),
    ("LOI path relative file", "path file dir directory folder location root config script image"), ("LOI uri", "url uri link endpoint"),
    ("LOI hex", "address addr pointer pc offset"), ("LOI int", "line offset column"),
    ("OBN user name", "user name domain table service queue group package volume owner tenant topic"), ("OBN unitid", "interface device disk"),
    ("SID bool", "enabled enable flag visible active ready on allowed running locked success force"), ("SID bit", "enable enabled flag switch"),
    ("TID type name TYPE TYPE", "type kind mode category action event-type"), ("OTP int decimal version percent", "version level ratio priority weight score speed "
     "temperature rate value mask depth index x y z w order volume load progress factor threshold"), ("OTP hex", "register mask flags value bits"),
)  # fmt: skip
"""A category and kinds of its values; the words that such a value goes by."""
_NAMES = [(kinds.split(), one.replace("-", " ")) for kinds, names in _NAMED for one in names.split()]
_WITH = (
    "{}={}",
    "{}={}",
    "{}: {}",
    "{}:{}",
    "{} {}",
    "{} {}",
    "{} = {}",
    "({} {})",
    "({}={})",
    "{} is {}",
    "{} set to {}",
    "~ {} {}",
    "{} : {},",
)


def _named(r: Random) -> str:
    """A value by its name, as in `sleepTime=12`."""
    (category, *kinds), name = r.choice(_NAMES)
    chance = r.random()
    if chance < 0.2:
        name = "~" + name.title().replace(" ", "")
    elif chance < 0.3:
        name = "~_" + name.replace(" ", "_")
    elif chance < 0.35:
        name = "~.~" + name.title().replace(" ", "")
    elif chance < 0.42:
        name = name.title()
    elif chance < 0.52:
        name = "".join(r.choice("aeirstnxmpc") for _ in range(r.randint(1, 3))) + name.replace(" ", "")
    return r.choice(_WITH).format(name, f"{{{category}.{r.choice(kinds)}}}")


_CONTEXTS = (
    "{OBA.int} ~s", "{OBA.int} ~ ~s", "{OBA.small} (attempts|retries|errors|failures|times|calls|tries)", "~ {LOI.path}", "from {LOI.ip}", "for {TDA.seconds} (seconds|ms|minutes)",
    "{TDA.int} (milliseconds|microseconds|seconds|ms|hours) ~", "over {TDA.int} seconds", "in {TDA.ms}", "{CRS.int} (bytes|KB|MB|GB)", "{CRS.size}", "took {TDA.int} ms",
    "({OTP.int})", "[{OTP.int}]", "{OTP.hex}", "at {LOI.hex}", "{OID.joined}", "{OID.joined}", "{OID.uuid}", "#{OID.int}", "~ #{OID.int}",
    "'{OBN.name}'", '"{OBN.name}"', "to {LOI.ipport}", "at {TDA.clock}", "{LOI.file}", "~ {OTP.int}", "~={OTP.int}", "~: {OTP.decimal}",
    "{OBA.int} of {OBA.int} ~s", "{LOI.uri}", "{OTP.percent}", "{OBN.package}", "to {LOI.host}", "on {LOI.host}", "(code|state|status) {STC.code}", "number of ~s: {OBA.int}",
    "for user {OBN.user}", "user {OBN.user} from {LOI.host}", "for {OBN.user} from {LOI.ip}", "by {OBN.user}", "domain {OBN.name}", "on {OBN.letterid}", "(cpu|rank|unit|slot|bank) {OID.small}",
    "{OBA.small} more ~s", "#{OBA.int} ~s", "#{OBA.int} ~ ~s", "max~s is {OBA.int}", "~: {OBA.int} ~s", "{OBA.int} (packets|messages|blocks|records) ~", "too (big|small|large), {CRS.big} > {CRS.big}", "signal {STC.small}", "reason {STC.int}", "host {LOI.ip}: {STC.small}:",
    "[{LOI.ip}]", "({LOI.ip})", "{LOI.domain} [{LOI.ip}]", "({OBN.user})", "network {LOI.ip}", "id={OID.small}", "id={OID.bit}", "={OTP.int} ~", "{} {OTP.small} {OTP.small}".replace("{}", "~"),
    "{OBA.int} ~s in {TDA.int} s", "~ {OID.decimal} in stage {OID.decimal}", "~s: {OBA.int}", "~s:{OBA.int}", "thread {OID.small}", "~-{OID.int}",
)  # fmt: skip
_STATIC = (
    "NULL null none (~) [~] ~.~ ~.~.~ ~:~ ~::~ ~-~ ~/~ ~_~ ~() ~.~() HTTP/1.1 ssh2 IPv4 IPv6 x86_64 md5 sha256 utf-8 "
    "ALL_CAPS LOAD_~ X_~_~ ~_~ ~.~~ ~~.~~: ~.~~.~(): ~2 ~2~ r-o read-only on-line re-~ non-~ UTF8 OAuth2 base64 i386 ext3 ipv6 802.11 S3 v2 EC2 log4j HttpServer2 p2p"
).split()


def _sentence(r: Random) -> str:
    parts = []
    for _ in range(r.randint(2, 9)):
        chance = r.random()
        if chance < 0.42:
            parts.append("~" if r.random() < 0.5 else r.choice(COMMON))
        elif chance < 0.6:
            parts.append(r.choice(COMMON).title() if not parts else r.choice(COMMON))
        elif chance < 0.68:
            parts.append(r.choice(_STATIC))
        else:
            parts.append(_named(r) if r.random() < 0.5 else r.choice(_CONTEXTS))
    text = " ".join(parts)
    return text + r.choice(("", "", "", ".", ":", " ...", "!"))


def _tagged(pattern: str, r: Random) -> list[tuple[str, str]]:
    """The pattern filled in: its pieces and their tags."""
    text, spans, at = "", [], 0
    for match in _PART.finditer(pattern):
        text += pattern[at : match.start()]
        at = match.end()
        if slot := _SLOT.fullmatch(match[0]):
            value = MAKERS[slot[2]](r) if r.random() > 0.02 else ""
            spans.append((len(text), len(text) + len(value), slot[1]))
            text += value
        elif match[0] == "~":
            text += _plain(r)
        else:
            text += r.choice(match[0][1:-1].split("|"))
    text += pattern[at:]
    tagged, start = [], 0
    for piece in split(text):
        end = start + len(piece)
        tag = next((cat for low, high, cat in spans if low < end and start < high), "")
        tagged.append((piece, tag if is_word(piece) and piece[-1] not in "-#@." else ""))
        start = end
    return tagged


def _plain(r: Random) -> str:
    one = word(r) if r.random() < 0.7 else r.choice(COMMON)
    chance = r.random()
    if chance < 0.6:
        return one
    if chance < 0.75:
        return one.title()
    if chance < 0.82:
        return one.upper()
    if chance < 0.92:
        return one + word(r).title()
    return one.title() + word(r).title()
