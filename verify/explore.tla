--------------------------- MODULE explore ----------------------------
(* The model, to be explored in small worlds: of states that differ in  *)
(* the names of agents, cells or operations only, one is enough. This   *)
(* stands apart because TLC makes all permutations when it begins, and  *)
(* real histories have too many operations for that.                    *)
EXTENDS memory

Symmetric == Permutations(Agents) \cup Permutations(Cells) \cup Permutations(Ops)
=======================================================================
