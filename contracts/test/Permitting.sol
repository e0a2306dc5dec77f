// SPDX-License-Identifier: MIT
pragma solidity 0.8.37;

import {Terms} from "../src/IEscrow.sol";
import {IPermit2} from "../src/IPermit2.sol";
import {Signing} from "./Signing.sol";
import {Permit2Code} from "./mocks/Permit2Code.sol";

/// @notice Puts Permit2 on the chain, and signs for it.
abstract contract Permitting is Signing {
    IPermit2 internal constant PERMIT2 = IPermit2(0x000000000022D473030F116dDEE9F6B43aC78BA3);

    /// @dev As it came to every chain, so that its address proves its code.
    function _deployPermit2() internal {
        vm.etch(Permit2Code.DEPLOYER, Permit2Code.DEPLOYER_CODE);
        (bool success,) = Permit2Code.DEPLOYER.call(bytes.concat(Permit2Code.SALT, Permit2Code.CREATION_CODE));
        assertTrue(success, "deployed");
        assertGt(address(PERMIT2).code.length, 0, "Permit2 has its own address");
        assertEq(address(PERMIT2), address(escrow.PERMIT2()), "the escrow calls it");
    }

    function _permitDigest(
        Terms memory t,
        uint96 deposit,
        uint256 nonce,
        uint256 deadline
    )
        internal
        view
        returns (bytes32)
    {
        return _permitDigest(address(escrow), t, deposit, nonce, deadline);
    }

    function _permitDigest(
        address spender,
        Terms memory t,
        uint96 deposit,
        uint256 nonce,
        uint256 deadline
    )
        internal
        view
        returns (bytes32)
    {
        bytes32 domain = keccak256(
            abi.encode(
                keccak256("EIP712Domain(string name,uint256 chainId,address verifyingContract)"),
                keccak256("Permit2"),
                block.chainid,
                address(PERMIT2)
            )
        );
        string memory definition = string.concat(
            "PermitWitnessTransferFrom(TokenPermissions permitted,address spender,uint256 nonce,uint256 deadline,Terms witness)",
            TERMS_TYPE,
            "TokenPermissions(address token,uint256 amount)"
        );
        // As the encoder wants a struct without fields of changing length: its fields one after the other.
        bytes memory encoded =
            bytes.concat(abi.encode(t.token, uint256(deposit), spender, nonce, deadline), abi.encode(t));
        return _typedIn(domain, definition, encoded);
    }
}
