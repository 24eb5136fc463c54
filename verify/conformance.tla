------------------------- MODULE conformance --------------------------
(* Recorded histories of real runs against the model: an event that was *)
(* recorded must be a step that the model's next-state relation allows. *)
(* `recorded`, made by conformance.py, is the histories as a constant.  *)
EXTENDS memory, recorded

VARIABLES
    history,  \* which of them this behaviour follows
    place     \* how many of its events have happened

Now(e) ==
    CASE e.event = "begin" -> Begin(e.op, e.agent, e.level)
      [] e.event = "read" -> Read(e.op, e.cell) /\ Version(e.cell) = e.version
      [] e.event = "issue" ->
            /\ Active(e.op)
            /\ e.call = Len(op[e.op].effects) + 1
            /\ Seen(e.op, e.tool) # Absent
            /\ Resolve(e.op, e.tool) = e.signature
            /\ Issue(e.op, e.tool)
      [] e.event = "compute" -> Compute(e.op, e.call)
      [] e.event = "release" -> Release(e.op, e.call)
      [] e.event = "commit" ->
            /\ Commit(e.op, DOMAIN e.writes)
            /\ \A c \in DOMAIN e.writes : Len(log'[c]) = e.writes[c]
      [] e.event = "conflict" -> Conflict(e.op)
      [] e.event = "abort" -> Abort(e.op)
      [] e.event = "retract" ->
            /\ e.op \in e.fell
            /\ Retract(e.op, e.fell \ {e.op})
            /\ \A c \in Cells \ DOMAIN e.restored : log'[c] = log[c]
            /\ \A c \in DOMAIN e.restored :
                /\ Len(log'[c]) = Version(c) + 1
                /\ Len(log'[c]) = e.restored[c].version
                /\ e.restored[c].copy_of \in 0..Version(c)
                /\ Writer(c, e.restored[c].copy_of) = log'[c][Len(log'[c])]
      [] e.event = "registry" ->
            IF registry[e.tool] = e.signature THEN UNCHANGED vars ELSE Churn(e.tool, e.signature)

Start ==
    /\ history \in DOMAIN Histories
    /\ place = 0
    /\ op = [o \in Ops |-> Idle]
    /\ log = [c \in Cells |-> <<>>]
    /\ clock = 0
    /\ registry = [t \in Tools |-> Absent]

Follow ==
    /\ place < Len(Histories[history])
    /\ Now(Histories[history][place + 1])
    /\ place' = place + 1
    /\ UNCHANGED history

Conforms == Start /\ [][Follow]_<<vars, history, place>>

\* Not a constraint: says how far each history comes, and whether its operations got what they were promised.
Tell == PrintT(<<history, place, Promise /\ LiveValues>>)
=======================================================================
