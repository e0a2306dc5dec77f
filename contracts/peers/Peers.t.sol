// SPDX-License-Identifier: MIT
pragma solidity 0.8.37;

import {CloseItem, EndSignatures, StartItem, Status, Terms} from "../src/IEscrow.sol";
import {Fixture} from "../test/Fixture.sol";
import {PriceList} from "../test/PriceList.sol";
import {ISablierComptroller, ISablierFlow} from "./ISablier.sol";

/// @notice The same rental's life through Sablier Flow and through the escrow: deposit, an hour of running, the provider
/// paid, the remainder back at the renter. Same chain, same token, every balance and counter above 0 before.
/// `scripts/gas-peers` fetches Sablier's published bytecode, runs this and prints the table.
contract PeersTest is Fixture, PriceList {
    string private constant SABLIER = "cache/peers/packages/@sablier/";
    uint256 private constant BATCH = 100;
    uint96 private constant RUN = 1 hours;

    /// @dev The second stream: the fixture opens the first.
    uint256 private constant STREAM = 2;

    ISablierFlow private flow;
    uint256 private _measured;
    Terms[] private batch;
    StartItem[] private starts;
    CloseItem[] private ends;

    function setUp() public override {
        super.setUp();
        flow = _deploySablier();
        vm.prank(renter);
        usdc.approve(address(flow), type(uint256).max);
        usdc.mint(provider, 1);
        // One rental has been there before, at either.
        _stream();
        _credited(provider);
    }

    function test_Sablier_CreateAndDeposit() public {
        _sablier(0, true);
    }

    function test_Sablier_PauseAndRefund() public {
        _sablier(1, true);
    }

    function test_Sablier_Withdraw() public {
        _sablier(3, true);
    }

    function test_Sablier_OneByOne_Pause() public {
        _sablier(1, false);
    }

    function test_Sablier_OneByOne_Refund() public {
        _sablier(2, false);
    }

    function test_Ours_Lock() public {
        _ours(0);
    }

    function test_Ours_Start() public {
        _ours(1);
    }

    function test_Ours_Close() public {
        _ours(2);
    }

    function test_Ours_Withdraw() public {
        _ours(3);
    }

    function test_Ours_StartBatch() public {
        _oursBatched(1);
    }

    function test_Ours_CloseBatch() public {
        _oursBatched(2);
    }

    /// @param together Whether the renter pauses and takes the remainder back in one transaction.
    function _sablier(uint256 measured, bool together) private {
        _measured = measured;
        _step(0, "sablier: create and deposit", 1, renter, address(flow), _createAndDeposit());
        skip(RUN);
        uint256 had = usdc.balanceOf(renter);
        bytes memory pause = abi.encodeCall(flow.pause, (STREAM));
        bytes memory refund = abi.encodeCall(flow.refundMax, (STREAM));
        if (together) {
            bytes[] memory calls = new bytes[](2);
            (calls[0], calls[1]) = (pause, refund);
            bytes memory both = abi.encodeCall(flow.batch, (calls));
            _step(1, "sablier: pause and refund", 1, renter, address(flow), both);
        } else {
            _step(1, "sablier: pause", 1, renter, address(flow), pause);
            _step(2, "sablier: refund", 1, renter, address(flow), refund);
        }
        assertEq(usdc.balanceOf(renter), had + DEPOSIT - RUN * PER_SEC, "refund");
        had = usdc.balanceOf(provider);
        bytes memory withdraw = abi.encodeCall(flow.withdrawMax, (STREAM, provider));
        _step(3, "sablier: withdraw", 1, provider, address(flow), withdraw);
        assertEq(usdc.balanceOf(provider), had + RUN * PER_SEC, "paid");
        assertEq(flow.getBalance(STREAM), 0, "nothing left");
    }

    function _ours(uint256 measured) private {
        _measured = measured;
        Terms memory t = _terms();
        _step(0, "ours: lock", 1, renter, address(escrow), _lockInput(t));
        _step(1, "ours: start", 1, operator, address(escrow), _startInput(t));
        skip(RUN);
        uint256 had = usdc.balanceOf(renter);
        uint256 balance = escrow.balanceOf(provider, address(usdc));
        _step(2, "ours: close", 1, operator, address(escrow), _closeInput(t));
        assertEq(usdc.balanceOf(renter), had + DEPOSIT - RUN * PER_SEC, "refund");
        uint96 net = RUN * PER_SEC * (10_000 - FEE_BPS) / 10_000;
        assertEq(escrow.balanceOf(provider, address(usdc)), balance + net, "paid");
        bytes memory withdraw = abi.encodeCall(escrow.withdraw, (address(usdc), provider, net));
        _step(3, "ours: withdraw", 1, provider, address(escrow), withdraw);
        assertEq(usdc.balanceOf(provider), net + 1, "withdrawn");
    }

    /// @dev 100 renters and 100 providers: nothing is shared but the token, the treasury and the transaction.
    function _oursBatched(uint256 measured) private {
        _measured = measured;
        for (uint256 i = 0; i < BATCH; ++i) {
            Terms memory t = _terms(address(usdc), keccak256(abi.encode(i)));
            t.renter = makeAddr(string.concat("renter", vm.toString(i)));
            t.provider = makeAddr(string.concat("provider", vm.toString(i)));
            _fund(t.renter, usdc, 1e12);
            _credited(t.provider);
            _lock(t, DEPOSIT);
            batch.push(t);
        }
        _step(1, "ours: start, one of 100", BATCH, operator, address(escrow), _startBatchInput());
        skip(RUN);
        uint256 held = usdc.balanceOf(address(escrow));
        _step(2, "ours: close, one of 100", BATCH, operator, address(escrow), _closeBatchInput());
        assertEq(usdc.balanceOf(address(escrow)), held - BATCH * (DEPOSIT - RUN * PER_SEC), "refunds");
        for (uint256 i = 0; i < BATCH; ++i) {
            _assertStatus(escrow.hashTerms(batch[i]), Status.None);
        }
    }

    /// @dev Every test goes through a whole life and measures one step of it.
    function _step(
        uint256 index,
        string memory name,
        uint256 items,
        address from,
        address to,
        bytes memory input
    )
        private
    {
        if (index == _measured) {
            _measure(name, items, from, to, 0, input);
        } else {
            vm.prank(from);
            (bool success,) = to.call(input);
            assertTrue(success, name);
        }
    }

    function _artifacts() internal pure override returns (string memory) {
        return "out-release";
    }

    function _lockInput(Terms memory t) private view returns (bytes memory) {
        return abi.encodeCall(escrow.lock, (t, DEPOSIT));
    }

    function _startInput(Terms memory t) private view returns (bytes memory) {
        return abi.encodeCall(escrow.start, (t, _now()));
    }

    function _closeInput(Terms memory t) private view returns (bytes memory) {
        return abi.encodeCall(escrow.close, (t, _now(), 0, EndSignatures("", "")));
    }

    function _startBatchInput() private returns (bytes memory) {
        for (uint256 i = 0; i < BATCH; ++i) {
            starts.push(StartItem(batch[i], _now()));
        }
        return abi.encodeCall(escrow.startBatch, (starts));
    }

    function _closeBatchInput() private returns (bytes memory) {
        for (uint256 i = 0; i < BATCH; ++i) {
            ends.push(CloseItem(batch[i], _now(), 0));
        }
        return abi.encodeCall(escrow.closeBatch, (ends, new EndSignatures[](0)));
    }

    /// @dev Gives `account` and the treasury a balance at the escrow.
    function _credited(address account) private {
        Terms memory t = _terms(address(usdc), keccak256(abi.encode("before", account)));
        t.provider = account;
        _activate(t, DEPOSIT);
        _close(t, _now(), 0);
    }

    function _createAndDeposit() private view returns (bytes memory) {
        uint128 rate = uint128(PER_SEC) * 1e12;
        address token = address(usdc);
        return abi.encodeCall(flow.createAndDeposit, (renter, provider, rate, 0, token, true, uint128(DEPOSIT)));
    }

    function _stream() private {
        vm.prank(renter);
        (bool success,) = address(flow).call(_createAndDeposit());
        assertTrue(success, "stream");
    }

    /// @dev As published, with no minimum fee and so no price oracle: what Sablier charges in POL comes on top.
    function _deploySablier() private returns (ISablierFlow) {
        address implementation =
            vm.deployCode(string.concat(SABLIER, "evm-utils/artifacts/SablierComptroller.json"), abi.encode(owner));
        bytes memory call = abi.encodeCall(ISablierComptroller.initialize, (owner, 0, 0, 0, 0, address(0)));
        address comptroller = vm.deployCode(
            string.concat(SABLIER, "evm-utils/artifacts/ERC1967Proxy.json"), abi.encode(implementation, call)
        );
        address descriptor = vm.deployCode(string.concat(SABLIER, "flow/artifacts/FlowNFTDescriptor.json"));
        return ISablierFlow(
            vm.deployCode(
                string.concat(SABLIER, "flow/artifacts/SablierFlow.json"), abi.encode(comptroller, descriptor)
            )
        );
    }
}
