"""The text format of the published DUET code: rows of a window and a target, in a train file and a test file.

```
user;target;trigger_sequence;click_sequence;label
7;19;11,5,8,0,0;11,5,8,2,0;1
```

`click_sequence` is the device's window: its last events before the target, newest last, zeros on the right where there
are fewer. `trigger_sequence` is what the generator reads, one event older. The train file is shuffled; each positive
row (label 1) comes with drawn negatives (label 0). The test file has, one after the other, the rows of each test case:
one positive and its negatives.

**Sequences.** Positive rows imply each user's sequence of events (`chains` says how); the test cases come last.

**Rows** as they stand are kept too, but only those that stand before the validation event of their user: whoever trains
on rows must not see it, nor rows that cannot be placed in the user's order.

Shapes: R rows, L events of a window, T events of a trigger sequence, N test cases, C candidates of a case.
"""
