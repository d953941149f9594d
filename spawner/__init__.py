"""The hub side of the GPU workbench: model, policy, the ledger, and the processes that use them."""
