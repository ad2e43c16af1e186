"""The way of a request, one module a step; they speak through the ledger.

Floor 4. Modules here do not import each other (but for `waiters`): each takes rows in one state and leaves them in
the next. An event shortens the wait, a slow tick makes the event optional, and so a crash between two steps is an
ordinary case.
"""
