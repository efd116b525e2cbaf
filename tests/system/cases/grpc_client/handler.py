"""Asks a service over gRPC, with messages of google.protobuf; the service runs here, so that the call is real."""

from concurrent import futures

import grpc
from google.protobuf import json_format, struct_pb2, timestamp_pb2, wrappers_pb2


class _Echo(grpc.GenericRpcHandler):
    def service(self, details):
        if details.method == "/demo.Echo/Say":
            return grpc.unary_unary_rpc_method_handler(
                self.say,
                request_deserializer=struct_pb2.Struct.FromString,
                response_serializer=struct_pb2.Struct.SerializeToString,
            )
        if details.method == "/demo.Echo/Count":
            return grpc.unary_stream_rpc_method_handler(
                self.count,
                request_deserializer=wrappers_pb2.Int32Value.FromString,
                response_serializer=wrappers_pb2.Int32Value.SerializeToString,
            )
        return None

    def say(self, request, context):
        if request["word"] == "bad":
            context.abort(grpc.StatusCode.INVALID_ARGUMENT, "no such word")
        answer = struct_pb2.Struct()
        answer["said"] = request["word"].upper()
        return answer

    def count(self, request, context):
        for n in range(request.value):
            yield wrappers_pb2.Int32Value(value=n)


def handler(event, context):
    server = grpc.server(futures.ThreadPoolExecutor(2), handlers=[_Echo()])
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    try:
        with grpc.insecure_channel(f"127.0.0.1:{port}") as channel:
            if "count" in event:
                call = channel.unary_stream(
                    "/demo.Echo/Count", wrappers_pb2.Int32Value.SerializeToString, wrappers_pb2.Int32Value.FromString
                )
                return [m.value for m in call(wrappers_pb2.Int32Value(value=event["count"]), timeout=10)]
            if "when" in event:
                stamp = timestamp_pb2.Timestamp()
                stamp.FromJsonString(event["when"])
                return json_format.MessageToDict(stamp)
            say = channel.unary_unary(
                "/demo.Echo/Say", struct_pb2.Struct.SerializeToString, struct_pb2.Struct.FromString
            )
            request = struct_pb2.Struct()
            request["word"] = event["word"]
            try:
                return json_format.MessageToDict(say(request, timeout=10))
            except grpc.RpcError as error:
                return [error.code().name, error.details()]
    finally:
        server.stop(None).wait()
