---------------------------- MODULE memory ----------------------------
(* Weft's shared memory: operations of agents over versioned cells and  *)
(* a registry of tools, at the consistency levels L0 .. L4 of           *)
(* arXiv 2606.17182. The anomalies A1, A2, A3, A6 are its definitions;  *)
(* the actions are what Weft does. docs/methods/consistency.md explains *)
(* both. A generation needs no action of its own: it is the time        *)
(* between an operation's reads and its commit, in which others act.    *)
EXTENDS Naturals, Sequences, FiniteSets, TLC

CONSTANTS
    Agents, Cells, Ops,  \* who acts, on what, in which operations
    Initial,             \* stands for "no operation": who wrote what was there before
    Tools, Signatures,   \* a tool's signature is one of these, or Absent
    Ordered,             \* the tools whose effects must land in order
    MaxEffects,          \* how many effects an operation issues at most
    Levels               \* the levels that operations may choose

Absent == 0

VARIABLES
    op,       \* operation -> what it has done so far
    log,      \* cell -> who wrote its versions 1, 2, ..; version 0 is "not there"
    clock,    \* how many commits and retractions the store has seen
    registry  \* tool -> signature, or Absent

vars == <<op, log, clock, registry>>

Idle == [phase |-> "idle"]
Init ==
    /\ op = [o \in Ops |-> Idle]
    /\ log = [c \in Cells |-> <<>>]
    /\ clock = 0
    /\ registry \in [Tools -> Signatures]

-----------------------------------------------------------------------
(* What can be said about operations. Each one writes a value of its    *)
(* own, so the value of a version is the operation that wrote it.       *)

Active(o) == op[o].phase = "active"
Live(o) == op[o].phase = "committed"
Done(o) == op[o].phase \in {"committed", "retracted"}

ReadSet(o) == DOMAIN op[o].reads
Version(c) == Len(log[c])
Writer(c, v) == IF v = 0 THEN Initial ELSE log[c][v]
ValueRead(o, c) == Writer(c, op[o].reads[c].version)

Producers(o) == {ValueRead(o, c) : c \in ReadSet(o)} \ {Initial}
RECURSIVE Upstream(_)
Upstream(known) ==
    LET more == known \cup UNION {Producers(p) : p \in known} IN IF more = known THEN known ELSE Upstream(more)
Predecessors(o) == Upstream(Producers(o))
Dependants(o) == {p \in Ops : Live(p) /\ o \in Predecessors(p)}

-----------------------------------------------------------------------
(* An operation, from its beginning to its end.                         *)

Begin(o, a, l) ==
    /\ op[o].phase = "idle"
    /\ op' = [op EXCEPT ![o] = [phase |-> "active", agent |-> a, level |-> l, pinned |-> registry,
                                reads |-> <<>>, effects |-> <<>>, released |-> <<>>]]
    /\ UNCHANGED <<log, clock, registry>>

Read(o, c) ==
    /\ Active(o)
    /\ c \notin ReadSet(o)
    /\ op' = [op EXCEPT ![o].reads = @ @@ (c :> [version |-> Version(c), time |-> clock])]
    /\ UNCHANGED <<log, clock, registry>>

\* A tool is planned as it was seen at the beginning (below L4 also as it is seen now, if it is new), and resolved when
\* it is called.
Resolve(o, t) == IF op[o].level >= 4 THEN op[o].pinned[t] ELSE registry[t]
Seen(o, t) == IF op[o].pinned[t] # Absent THEN op[o].pinned[t] ELSE Resolve(o, t)
Issue(o, t) ==
    /\ Active(o)
    /\ Len(op[o].effects) < MaxEffects
    /\ Seen(o, t) # Absent
    /\ op' = [op EXCEPT ![o].effects = Append(@,
                [tool |-> t, planned |-> Seen(o, t), got |-> Resolve(o, t), state |-> "issued"])]
    /\ UNCHANGED <<log, clock, registry>>

Compute(o, i) ==
    /\ Active(o)
    /\ i \in DOMAIN op[o].effects
    /\ op[o].effects[i].state = "issued"
    /\ op' = [op EXCEPT ![o].effects[i].state = "computed"]
    /\ UNCHANGED <<log, clock, registry>>

\* From L3 on an ordered effect waits for the ordered ones that were issued before it.
Turn(o, i) ==
    \A k \in 1..(i - 1) : op[o].effects[k].tool \in Ordered => op[o].effects[k].state = "released"
Release(o, i) ==
    /\ Active(o)
    /\ i \in DOMAIN op[o].effects
    /\ op[o].effects[i].state = "computed"
    /\ op[o].level >= 3 /\ op[o].effects[i].tool \in Ordered => Turn(o, i)
    /\ op' = [op EXCEPT ![o].effects[i].state = "released", ![o].released = Append(@, i)]
    /\ UNCHANGED <<log, clock, registry>>

\* From L1 on everything that was read must still be the newest version, also what is written as well, also if
\* nothing is written; from L2 on all that it stems from must be live.
Validated(o) == {c \in ReadSet(o) : op[o].level >= 1}
Fresh(o) == \A c \in Validated(o) : Version(c) = op[o].reads[c].version
Sound(o) == op[o].level >= 2 => \A p \in Predecessors(o) : Live(p)
Valid(o) == Fresh(o) /\ Sound(o)

Commit(o, written) ==
    /\ Active(o)
    /\ \A i \in DOMAIN op[o].effects : op[o].effects[i].state = "released"
    /\ Valid(o)
    /\ log' = [c \in Cells |-> IF c \in written THEN Append(log[c], o) ELSE log[c]]
    /\ clock' = clock + 1
    /\ op' = [op EXCEPT ![o] = [phase |-> "committed", agent |-> @.agent, level |-> @.level, reads |-> @.reads,
                                time |-> clock']]
    /\ UNCHANGED registry

\* What was refused begins anew, as often as it takes; so does what its program gave up.
Conflict(o) ==
    /\ Active(o)
    /\ ~Valid(o)
    /\ op' = [op EXCEPT ![o] = Idle]
    /\ UNCHANGED <<log, clock, registry>>

Abort(o) ==
    /\ Active(o)
    /\ op' = [op EXCEPT ![o] = Idle]
    /\ UNCHANGED <<log, clock, registry>>

-----------------------------------------------------------------------
(* Retraction. Dependants of level 2 and above must fall with it; those *)
(* of lower levels may. A cell whose newest value falls gets the newest *)
(* value that stays, as a new version.                                  *)

Falling(o) == {p \in Dependants(o) : op[p].level >= 2}

RECURSIVE Newest(_, _, _)
Newest(c, v, falling) ==
    IF v = 0 THEN Initial
    ELSE LET w == log[c][v] IN
         IF w = Initial \/ (w \notin falling /\ Live(w)) THEN w ELSE Newest(c, v - 1, falling)

Restored(c, falling) ==
    IF Writer(c, Version(c)) \in falling THEN Append(log[c], Newest(c, Version(c), falling)) ELSE log[c]

Retract(o, others) ==
    /\ Live(o)
    /\ Falling(o) \subseteq others /\ others \subseteq Dependants(o)
    /\ LET falling == {o} \cup others IN
       /\ op' = [p \in Ops |-> IF p \in falling THEN [phase |-> "retracted"] @@ op[p] ELSE op[p]]
       /\ log' = [c \in Cells |-> Restored(c, falling)]
    /\ clock' = clock + 1
    /\ UNCHANGED registry

\* Tools are added, removed and changed at any time.
Churn(t, signature) ==
    /\ registry[t] # signature
    /\ registry' = [registry EXCEPT ![t] = signature]
    /\ UNCHANGED <<op, log, clock>>

Next ==
    \/ \E o \in Ops :
        \/ \E a \in Agents, l \in Levels : Begin(o, a, l)
        \/ \E c \in Cells : Read(o, c)
        \/ \E t \in Tools : Issue(o, t)
        \/ \E i \in 1..MaxEffects : Compute(o, i) \/ Release(o, i)
        \/ \E written \in SUBSET Cells : Commit(o, written)
        \/ Conflict(o)
        \/ Abort(o)
        \/ \E others \in SUBSET Ops : Retract(o, others)
    \/ \E t \in Tools, s \in Signatures \cup {Absent} : Churn(t, s)

Spec == Init /\ [][Next]_vars

-----------------------------------------------------------------------
(* The anomalies, as defined in the paper. A6 and A2 count as soon as   *)
(* they happen: an effect is out, even if its operation never commits.  *)

\* A1, stale generation: what i read was written by another agent before i committed.
A1(i) ==
    /\ Done(i)
    /\ \E j \in Ops \ {i} :
        /\ Done(j)
        /\ op[j].agent # op[i].agent
        /\ \E c \in ReadSet(i) :
            /\ \E v \in DOMAIN log[c] : log[c][v] = j
            /\ op[i].reads[c].time < op[j].time
            /\ op[j].time < op[i].time
            /\ ValueRead(i, c) # j

\* A2, phantom tool: what was planned is not what was found.
A2(o) == Active(o) /\ \E i \in DOMAIN op[o].effects : op[o].effects[i].got # op[o].effects[i].planned

\* A3, causal cascade: a live operation stems from a retracted one.
A3(o) == Live(o) /\ \E p \in Predecessors(o) : op[p].phase = "retracted"

\* A6, tool-effect reordering: at least two ordered effects, all released, and not as they were issued.
A6(o) ==
    /\ Active(o)
    /\ LET landed == SelectSeq(op[o].released, LAMBDA i : op[o].effects[i].tool \in Ordered) IN
       /\ Len(op[o].released) = Len(op[o].effects)
       /\ Len(landed) >= 2
       /\ \E k \in 1..(Len(landed) - 1) : landed[k] > landed[k + 1]

NoA1 == \A o \in Ops : ~A1(o)
NoA2 == \A o \in Ops : ~A2(o)
NoA3 == \A o \in Ops : ~A3(o)
NoA6 == \A o \in Ops : ~A6(o)

\* What each operation is promised by the level that it chose, whatever the others chose.
Kept(o) ==
    op[o].phase # "idle" =>
        /\ op[o].level >= 1 => ~A1(o)
        /\ op[o].level >= 2 => ~A3(o)
        /\ op[o].level >= 3 => ~A6(o)
        /\ op[o].level >= 4 => ~A2(o)
Promise == \A o \in Ops : Kept(o)

\* Nobody is left to read what was retracted.
LiveValues == \A c \in Cells : LET w == Writer(c, Version(c)) IN w = Initial \/ Live(w)
=======================================================================
