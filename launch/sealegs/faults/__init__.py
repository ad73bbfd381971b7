"""The fault catalogue (`sealegs faults`): every fault is injected into real nodes in real processes, and counted."""
