"""The warm pool: worker processes, the policy that places models on them, and the controller."""
