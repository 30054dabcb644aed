//! The face to operators: their gRPC services on the node's unix socket.
